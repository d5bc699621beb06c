"""The range of every number of a recipe in Axolotl's schema.

Outside it a training is an error or nonsense.

Axolotl itself lets a negative learning rate, a beta of 1.5 or a batch of -1 pass.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from zagreus.config.problems import raise_all
from zagreus.recipe.ranges import ABOVE_0, FROM_0, FROM_1, RATE, SEED, SHARE, Range

WHOLE_SHARE = Range(0, 1)
FROM_MINUS_1 = Range(-1)
COUNTS = {
    **dict.fromkeys(["micro_batch_size", "gradient_accumulation_steps", "eval_batch_size"], FROM_1),
    **dict.fromkeys(
        ["sequence_len", "eval_sequence_len", "save_total_limit", "logging_steps"], FROM_1
    ),
    **dict.fromkeys(["dataset_num_proc", "dataset_processes", "lora_r", "lora_alpha"], FROM_1),
    **dict.fromkeys(["sample_packing_group_size", "sample_packing_bin_size"], FROM_1),
    **dict.fromkeys(["evals_per_epoch", "saves_per_epoch"], FROM_1),
    **dict.fromkeys(["warmup_steps", "dataloader_num_workers", "min_sample_len"], FROM_0),
    "max_steps": FROM_MINUS_1,  # transformers: -1 is all epochs
    "seed": SEED,
}
NUMBERS = {
    **dict.fromkeys(["learning_rate", "embedding_lr"], RATE),
    **dict.fromkeys(["num_epochs", "adam_epsilon", "adam_epsilon2", "rl_beta"], ABOVE_0),
    # Steps, or below 1 a share of all steps.
    **dict.fromkeys(["save_steps", "eval_steps"], ABOVE_0),
    **dict.fromkeys(
        ["weight_decay", "max_grad_norm", "val_set_size", "neftune_noise_alpha"], FROM_0
    ),
    **dict.fromkeys(["adam_beta1", "adam_beta2", "adam_beta3", "lora_dropout"], SHARE),
    **dict.fromkeys(
        ["warmup_ratio", "cosine_min_lr_ratio", "cosine_constant_lr_ratio"], WHOLE_SHARE
    ),
    **dict.fromkeys(["dpo_label_smoothing"], Range(0, 0.5)),
}


def check_ranges(recipe: Mapping[str, Any], where: str) -> None:
    """Raise `InputError` with all numbers of a recipe that are outside their ranges.

    Args:
        recipe: as the file has it. Keys without a range and null are not looked at.
        where: the recipe's file, for the message.
    """
    raise_all(_problems(recipe), where)


def _problems(recipe: Mapping[str, Any]) -> Iterator[str]:
    for key, value in recipe.items():
        if value is None:
            continue
        if key in COUNTS and (type(value) is not int or not COUNTS[key].holds(value)):
            yield f"{key}: found {value!r}, expected a whole number, {COUNTS[key]}"
        elif key in NUMBERS:
            number = _number(value)
            if number is None or not NUMBERS[key].holds(number):
                yield f"{key}: found {value!r}, expected {NUMBERS[key]}"


def _number(value: Any) -> float | None:
    """Return a value as Axolotl reads it; None for what is no number.

    Axolotl takes `1e-5` for a number, which YAML reads as text.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
