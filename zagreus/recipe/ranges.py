"""The range of every number of a pre-training recipe.

Outside it a training is an error or nonsense.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from zagreus.config.problems import raise_all
from zagreus.recipe.schema import Muon, Recipe, Scheduler


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, the ends included unless they are said to be open."""

    low: float = -math.inf
    """Smallest number."""
    high: float = math.inf
    """Largest number."""
    low_open: bool = False
    """Whether the smallest number itself is outside."""
    high_open: bool = False
    """Whether the largest number itself is outside."""

    def holds(self, value: float) -> bool:
        """Whether a number is within the range; NaN and infinity never are."""
        if isinstance(value, float) and not math.isfinite(value):
            return False
        above = value > self.low if self.low_open else value >= self.low
        return above and (value < self.high if self.high_open else value <= self.high)

    def __str__(self) -> str:
        """Return the range in words: `a number above 0`, `at least 1`, `from 0 to below 1`."""
        if self.high == math.inf:
            return (
                f"a number above {self.low:.15g}" if self.low_open else f"at least {self.low:.15g}"
            )
        high = f"below {self.high:.15g}" if self.high_open else f"{self.high:.15g}"
        return f"{'above' if self.low_open else 'from'} {self.low:.15g} to {high}"


ABOVE_0 = Range(0, low_open=True)
FROM_0 = Range(0)
FROM_1 = Range(1)
SHARE = Range(0, 1, high_open=True)
# Seeds are numpy's (RandomState takes 32 bits) as well as torch's.
SEED = Range(0, 2**32 - 1)
FROM_MINUS_1 = Range(-1)

# By the key's path in the file. Booleans and texts have no range; `null` is not looked at.
RANGES = {
    "general.seed": SEED,
    "parallelism.dp": FROM_1,
    "tokens.sequence_length": FROM_1,
    "tokens.train_steps": FROM_1,
    "tokens.micro_batch_size": FROM_1,
    "tokens.batch_accumulation_per_replica": FROM_1,
    "tokens.val_check_interval": FROM_MINUS_1,
    "tokens.limit_val_batches": FROM_0,
    "tokens.limit_test_batches": FROM_0,
    "checkpoints.checkpoint_interval": FROM_1,
    "model.make_vocab_size_divisible_by": FROM_1,
    "model.ddp_bucket_cap_mb": FROM_0,
    "model.init_method.std": ABOVE_0,
    "model.model_config.initializer_range": FROM_0,
    "model.model_config.hidden_size": FROM_1,
    "model.model_config.intermediate_size": FROM_1,
    "model.model_config.num_attention_heads": FROM_1,
    "model.model_config.num_hidden_layers": FROM_1,
    "model.model_config.num_key_value_heads": FROM_1,
    "model.model_config.max_position_embeddings": FROM_1,
    "model.model_config.vocab_size": FROM_MINUS_1,
    "model.model_config.bos_token_id": FROM_MINUS_1,
    "model.model_config.eos_token_id": FROM_MINUS_1,
    "model.model_config.pad_token_id": FROM_MINUS_1,
    "model.model_config.rms_norm_eps": ABOVE_0,
    "model.model_config.rope_theta": ABOVE_0,
    "optimizer.weight_decay": FROM_0,
    "optimizer.clip_grad": ABOVE_0,
    "optimizer.optimizer_factory.adam_eps": ABOVE_0,
    "optimizer.optimizer_factory.adam_beta1": SHARE,
    "optimizer.optimizer_factory.adam_beta2": SHARE,
    "logging.iteration_step_info_interval": FROM_1,
    "zagreus.rolling_saves": FROM_1,
    "zagreus.loss_limit": ABOVE_0,
}
# A rate of 1 moves every weight by its own size at each step of Adam: nothing that was learned
# stays.
RATE = Range(0, 1, low_open=True)


def check_ranges(recipe: Recipe, where: str) -> None:
    """Raise `InputError` with all numbers of a recipe that are outside their ranges.

    Args:
        recipe: the recipe.
        where: its file, for the message.
    """
    raise_all(_range_problems(recipe), where)


def _range_problems(recipe: Recipe) -> Iterator[str]:
    for path, range_, value in _numbers(recipe):
        if value is not None and not range_.holds(value):
            yield f"{path}: found {value}, expected {range_}"
    if recipe.model.model_config.vocab_size == 0:
        yield (
            "model.model_config.vocab_size: found 0, expected at least 1, or -1 for the tokenizer's"
        )
    for path, scheduler in _schedulers(recipe):
        yield from _scheduler_problems(scheduler, path)


def _numbers(recipe: Recipe) -> Iterator[tuple[str, Range, float | None]]:
    for path, range_ in RANGES.items():
        value: Any = recipe
        for name in path.split("."):
            value = getattr(value, name)
        yield path, range_, value
    factory = recipe.optimizer.optimizer_factory
    if isinstance(factory, Muon):
        yield "optimizer.optimizer_factory.muon_momentum", SHARE, factory.muon_momentum
    for index, stage in enumerate(recipe.data_stages):
        yield f"data_stages[{index}].data.seed", SEED, stage.data.seed
        yield (
            f"data_stages[{index}].data.num_loading_workers",
            FROM_0,
            stage.data.num_loading_workers,
        )
        yield f"data_stages[{index}].start_training_step", FROM_1, stage.start_training_step
        yield f"data_stages[{index}].sequence_length", FROM_1, stage.sequence_length
        for position, weight in enumerate(stage.data.dataset.dataset_weights or ()):
            yield f"data_stages[{index}].data.dataset.dataset_weights[{position}]", FROM_0, weight
    for index, item in enumerate(recipe.zagreus.validation):
        yield f"zagreus.validation[{index}].weight", ABOVE_0, item.weight


def _schedulers(recipe: Recipe) -> Iterator[tuple[str, Scheduler]]:
    yield "optimizer.learning_rate_scheduler", recipe.optimizer.learning_rate_scheduler
    for index, schedule in enumerate(recipe.zagreus.stage_schedules):
        yield (
            f"zagreus.stage_schedules[{index}].learning_rate_scheduler",
            schedule.learning_rate_scheduler,
        )


def _scheduler_problems(scheduler: Scheduler, where: str) -> Iterator[str]:
    rates = {
        "learning_rate": (RATE, scheduler.learning_rate),
        "min_decay_lr": (Range(0, 1), scheduler.min_decay_lr),
    }
    steps = {
        name: (FROM_0, getattr(scheduler, name))
        for name in ("lr_warmup_steps", "lr_decay_starting_step")
    }
    steps["lr_decay_steps"] = (FROM_0, scheduler.lr_decay_steps)
    for name, (range_, value) in (rates | steps).items():
        if value is not None and not range_.holds(value):
            yield f"{where}.{name}: found {value}, expected {range_}"
    if scheduler.min_decay_lr is not None and scheduler.min_decay_lr > scheduler.learning_rate:
        yield (
            f"{where}.min_decay_lr: found {scheduler.min_decay_lr}, expected at most the "
            f"learning_rate ({scheduler.learning_rate})"
        )
