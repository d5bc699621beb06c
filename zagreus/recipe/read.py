"""Pre-training recipes: nanotron's YAML for a Llama, read strictly.

Every key of nanotron's schema is known (`zagreus.recipe.schema`). What this trainer cannot honour
is an error that names the key; what nanotron itself reads and never uses is accepted, and `ignored`
says so. Needs the standard library and PyYAML only: the host reads recipes before anything runs.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from zagreus.config.yaml_file import read_mapping
from zagreus.errors import InputError
from zagreus.recipe.ranges import check_ranges
from zagreus.recipe.schema import DataStage, Muon, Recipe, Scheduler
from zagreus.recipe.strict import build, plain

# Shares that people write with a few digits (0.333, three times) do not sum to 1; those that are
# meant to do so, do within this.
SHARES_TOLERANCE = 1e-6
# Raised by one whenever the same recipe and data would give other weights than before; it is part
# of every fingerprint.
TRAINER = 3


def read_recipe(path: Path | str) -> Recipe:
    """Read and check a recipe file; raise `InputError` with the path of the offending key."""
    if not Path(path).exists():
        raise InputError(f"{path}: no such recipe")
    value = _today(read_mapping(path))
    _check_forms(value, str(path))
    recipe = build(Recipe, value, str(path))
    check(recipe, str(path))
    return recipe


# nanotron takes one of several forms of these sections, by their keys. The first key of each form
# that is not implemented here:
_OTHER_FORMS = {
    "model_config": {
        "is_starcoder2_config": "only a Llama is implemented",
        "is_qwen2_config": "only a Llama is implemented",
    },
    "init_method": {
        "use_mup": "not implemented; give std",
        "path": (
            "give std: another model to start from is given by --from, or in a configuration "
            "by pretrain.from"
        ),
    },
    "dataset": {"hf_dataset_or_datasets": "text is tokenized beforehand; give dataset_folder"},
}


def parsed_recipe(path: str) -> Recipe:
    """Return a pre-training recipe; read once, as many models share one."""
    return _parsed(path, Path(path).stat().st_mtime_ns)


@cache
def _parsed(path: str, changed: int) -> Recipe:
    return read_recipe(Path(path))


def _check_forms(value: Any, where: str) -> None:
    """Raise `InputError` where a section has a form that nanotron knows and this trainer does not
    implement.
    """
    model, stages = _section(value, "model"), _section(value, "data_stages")
    sections = {f"model.{name}": _section(model, name) for name in ("model_config", "init_method")}
    for index, stage in enumerate(stages if isinstance(stages, list) else ()):
        sections[f"data_stages[{index}].data.dataset"] = _section(
            _section(stage, "data"), "dataset"
        )
    for path, section in sections.items():
        for key, instead in _OTHER_FORMS[path.rpartition(".")[2]].items():
            if _section(section, key) is not None:
                raise InputError(f"{where}: {path}.{key}: {instead}")


def _section(value: Any, key: str) -> Any:
    """Return what stands under a key; None where there is no such key, or no mapping."""
    return value.get(key) if isinstance(value, Mapping) else None


def _today(value: Any) -> Any:
    """Return a recipe with the data set sections of 2024 in today's spelling.

    `dataset_path`, and a mapping of folders to weights.
    """
    stages = _section(value, "data_stages")
    for stage in stages if isinstance(stages, list) else ():
        dataset = _section(_section(stage, "data"), "dataset")
        if not isinstance(dataset, dict):
            continue
        if "dataset_path" in dataset and "dataset_folder" not in dataset:
            dataset["dataset_folder"] = dataset.pop("dataset_path")
        folders = dataset.get("dataset_folder")
        if isinstance(folders, Mapping) and "dataset_weights" not in dataset:
            dataset |= {"dataset_folder": list(folders), "dataset_weights": list(folders.values())}
    return value


def write_recipe(recipe: Recipe, path: Path | str) -> None:
    """Write a recipe as YAML, every key with its value."""
    Path(path).write_text(
        yaml.safe_dump(plain(recipe), sort_keys=False, allow_unicode=True), encoding="utf-8"
    )


def check(recipe: Recipe, where: str) -> None:
    """Raise `InputError` at the first value that this trainer does not implement or that
    contradicts another.
    """
    config, parallelism, optimizer, stages = (
        recipe.model.model_config,
        recipe.parallelism,
        recipe.optimizer,
        recipe.data_stages,
    )
    scheduler = optimizer.learning_rate_scheduler
    check_ranges(recipe, where)
    if not stages:
        raise InputError(f"{where}: data_stages: found 0 stages, expected at least one")
    stages.sort(key=lambda stage: stage.start_training_step)
    starts = [stage.start_training_step for stage in stages]
    if (
        starts[0] != 1
        or len(set(starts)) != len(stages)
        or len({stage.name for stage in stages}) != len(stages)
    ):
        raise InputError(
            f"{where}: data_stages: found stages that start at {starts}, expected one at step 1, "
            "and no start or name twice"
        )
    only = {
        "parallelism.pp": (parallelism.pp, 1, "use dp"),
        "parallelism.tp": (parallelism.tp, 1, "use dp"),
        "parallelism.expert_parallel_size": (
            parallelism.expert_parallel_size,
            1,
            "a Llama has no experts",
        ),
        "parallelism.context_parallel_size": (parallelism.context_parallel_size, 1, "use dp"),
        "parallelism.moe_layer_recompute": (
            parallelism.moe_layer_recompute,
            False,
            "a Llama has no experts",
        ),
        "model.model_config.is_llama_config": (
            config.is_llama_config,
            True,
            "only a Llama is implemented",
        ),
        "model.model_config.z_loss_enabled": (
            config.z_loss_enabled,
            False,
            "the z-loss is not implemented",
        ),
        "checkpoints.save_initial_state": (
            recipe.checkpoints.save_initial_state,
            False,
            "not implemented",
        ),
        "checkpoints.load_lr_scheduler": (
            recipe.checkpoints.load_lr_scheduler,
            True,
            "a resume is always exact",
        ),
        "checkpoints.load_optimizer": (
            recipe.checkpoints.load_optimizer,
            True,
            "a resume is always exact",
        ),
        "checkpoints.resume_checkpoint_path": (
            recipe.checkpoints.resume_checkpoint_path,
            None,
            "the newest save is found by itself",
        ),
        "metrics_logging.log_level": (
            recipe.metrics_logging.log_level,
            0,
            "norms of single layers are not logged",
        ),
        "profiler": (recipe.profiler, None, "not implemented"),
        "lighteval": (recipe.lighteval, None, "the rule evaluate scores checkpoints"),
        "s3_upload": (recipe.s3_upload, None, "not implemented"),
        "bench": (recipe.bench, None, "not implemented"),
        "general.step": (
            recipe.general.step,
            None,
            "it is written by nanotron into checkpoints, not given",
        ),
        "general.consumed_train_samples": (
            recipe.general.consumed_train_samples,
            None,
            "it is written into checkpoints, not given",
        ),
    }
    for key, (value, expected, why) in only.items():
        if value != expected:
            raise InputError(
                f"{where}: {key}: found {json.dumps(value)}, expected {json.dumps(expected)} "
                f"({why})"
            )
    if optimizer.zero_stage not in (0, 1):
        raise InputError(
            f"{where}: optimizer.zero_stage: found {optimizer.zero_stage}, expected 0 or 1 "
            "(gradients and weights are whole)"
        )
    if isinstance(optimizer.optimizer_factory, Muon) and optimizer.zero_stage:
        raise InputError(
            f"{where}: optimizer.zero_stage: found {optimizer.zero_stage}, expected 0 "
            "(optimizer_factory muon needs whole matrices)"
        )
    for index, stage in enumerate(stages):
        _check_stage(recipe, stage, f"{where}: data_stages[{index}]")
    for schedule in recipe.zagreus.stage_schedules:
        if schedule.stage not in {stage.name for stage in stages}:
            raise InputError(
                f"{where}: zagreus.stage_schedules: found a schedule of '{schedule.stage}', which "
                "is no data stage's name"
            )
        if schedule.learning_rate_scheduler.lr_decay_steps is None:
            raise InputError(
                f"{where}: zagreus.stage_schedules: '{schedule.stage}': lr_decay_steps: missing key"
            )
    if any(item.weight <= 0 for item in recipe.zagreus.validation):
        raise InputError(
            f"{where}: zagreus.validation: found a weight of 0 or less, expected a share above 0"
        )
    if config.hidden_size % (2 * config.num_attention_heads):
        raise InputError(
            f"{where}: model.model_config.hidden_size: found {config.hidden_size}, expected an "
            f"even multiple of num_attention_heads ({config.num_attention_heads})"
        )
    if config.num_attention_heads % config.key_value_heads:
        raise InputError(
            f"{where}: model.model_config.num_key_value_heads: found {config.key_value_heads}, "
            f"expected a divisor of num_attention_heads ({config.num_attention_heads})"
        )
    if scheduler.lr_decay_steps is None and scheduler.lr_warmup_steps >= recipe.tokens.train_steps:
        raise InputError(
            f"{where}: optimizer.learning_rate_scheduler.lr_warmup_steps: found "
            f"{scheduler.lr_warmup_steps}, expected fewer than "
            f"tokens.train_steps ({recipe.tokens.train_steps})"
        )


def _check_stage(recipe: Recipe, stage: DataStage, where: str) -> None:
    """Raise `InputError` at what is not implemented or contradictory in a data stage."""
    dataset, weights = stage.data.dataset, stage.data.dataset.dataset_weights
    only = {
        "sequence_length": (
            stage.sequence_length or recipe.tokens.sequence_length,
            recipe.tokens.sequence_length,
            "one length",
        ),
        "data.dataset.dataset_max_tokens": (dataset.dataset_max_tokens, None, "not implemented"),
        "data.dataset.skip_in_stream": (dataset.skip_in_stream, False, "not implemented"),
        "data.dataset.use_old_brrr_dataloader": (
            dataset.use_old_brrr_dataloader,
            False,
            "not implemented",
        ),
        "data.dataset.pad_samples_to_global_batch_size": (
            dataset.pad_samples_to_global_batch_size,
            False,
            "not implemented",
        ),
    }
    for key, (value, expected, why) in only.items():
        if value != expected:
            raise InputError(
                f"{where}.{key}: found {json.dumps(value)}, expected {json.dumps(expected)} ({why})"
            )
    if weights is not None and len(weights) != len(dataset.folders):
        raise InputError(
            f"{where}.data.dataset.dataset_weights: found {len(weights)} weights, expected one "
            f"for each of {len(dataset.folders)} folders"
        )
    if weights is not None and (
        min(weights, default=1) < 0 or sum(weights) <= 0 and dataset.folders
    ):
        raise InputError(
            f"{where}.data.dataset.dataset_weights: found a negative weight or only zeros, "
            "expected a share each"
        )


def ignored(recipe: Recipe) -> list[str]:
    """Return what the recipe says that has no effect here (most of it in nanotron neither), one
    line each.
    """
    config, tokens = recipe.model.model_config, recipe.tokens
    lines = [
        f"model.model_config.initializer_range {config.initializer_range}: init_method.std "
        f"{recipe.model.init_method.std} is used"
    ]
    if config.max_position_embeddings != tokens.sequence_length:
        lines.append(
            f"model.model_config.max_position_embeddings {config.max_position_embeddings}: "
            "training uses tokens.sequence_length"
        )
    if config.attention_bias:
        lines.append("model.model_config.attention_bias true: there is no bias")
    if config.rope_scaling is not None:
        lines.append("model.model_config.rope_scaling: not applied in training")
    if tokens.val_check_interval > 0 and not recipe.validation_interval:
        lines.append(
            f"tokens.val_check_interval {tokens.val_check_interval}: zagreus.validation names no "
            "folder of held-out tokens"
        )
    if tokens.limit_test_batches:
        lines.append(
            f"tokens.limit_test_batches {tokens.limit_test_batches}: there is no test during "
            "training"
        )
    if recipe.logging.iteration_step_info_interval != 1:
        lines.append(
            f"logging.iteration_step_info_interval {recipe.logging.iteration_step_info_interval}: "
            "every step is logged"
        )
    for index, stage in enumerate(recipe.data_stages):
        if stage.data.dataset.dataset_read_path is not None:
            lines.append(
                f"data_stages[{index}].data.dataset.dataset_read_path: shards are read from "
                "dataset_folder"
            )
        if not stage.data.dataset.shuffle_files and recipe.zagreus.end_of_data == "error":
            lines.append(
                f"data_stages[{index}].data.seed {stage.data.seed}: nothing is shuffled, as "
                "shuffle_files is false"
            )
    return lines


def resolved(scheduler: Scheduler, train_steps: int) -> Scheduler:
    """Return the schedule with nanotron's defaults filled in.

    Decay over all of `train_steps` after the warmup, no lower limit.
    """
    decay = (
        train_steps - scheduler.lr_warmup_steps
        if scheduler.lr_decay_steps is None
        else scheduler.lr_decay_steps
    )
    start = (
        scheduler.lr_warmup_steps
        if scheduler.lr_decay_starting_step is None
        else scheduler.lr_decay_starting_step
    )
    lowest = scheduler.learning_rate if scheduler.min_decay_lr is None else scheduler.min_decay_lr
    return replace(
        scheduler, lr_decay_steps=decay, lr_decay_starting_step=start, min_decay_lr=lowest
    )


def check_steps(recipe: Recipe, checkpoints: Sequence[int]) -> None:
    """Raise `InputError` where a checkpoint can never be reached.

    Not a positive step, not after the one before, beyond the recipe.
    """
    previous = 0
    for step in checkpoints:
        if step <= previous:
            after = f"a step after {previous}" if previous else "a step of at least 1"
            raise InputError(f"checkpoints: found {step}, expected {after}")
        if step > recipe.tokens.train_steps:
            raise InputError(
                f"checkpoints: found {step}, beyond the recipe's tokens.train_steps "
                f"({recipe.tokens.train_steps})"
            )
        previous = step
    if not checkpoints:
        raise InputError("checkpoints: found none, expected at least one step")


def check_mixture(mixture: Mapping[str, float]) -> None:
    """Raise `InputError` where the shares of a mixture are not positive numbers that sum to 1."""
    for source, share in mixture.items():
        if not 0 < share < math.inf:
            raise InputError(f"mixture.{source}: found {share}, expected a share above 0")
    total = math.fsum(mixture.values())
    if abs(total - 1) > SHARES_TOLERANCE:
        hint = "; shares are expected, not per cent" if abs(total - 100) < 1 else ""
        raise InputError(f"mixture: the weights sum to {total:.9g}, expected 1{hint}")


def recipe_slice(recipe: Recipe, step: int, origin: str | None = None) -> dict[str, Any]:
    """Return the part of a recipe that decides the weights after `step`, and nothing else.

    `origin` stands for the first weights where
    they are another model's.

    Circumstances are left out (paths, logging, ranks, micro batch and accumulation at the same
    global batch, compilation, ZeRO-1, recomputed layers), and so is what only later steps see: the
    decay of a learning rate before its first step, and the number of steps in all.
    """
    full = resolved(recipe.optimizer.learning_rate_scheduler, recipe.tokens.train_steps)
    schedule = plain(full)
    assert full.lr_decay_starting_step is not None
    if step - 1 < full.lr_decay_starting_step:
        for key in ("lr_decay_style", "lr_decay_steps", "lr_decay_starting_step", "min_decay_lr"):
            del schedule[key]
    optimizer = plain(recipe.optimizer)
    epochs, started = (
        recipe.zagreus.end_of_data == "epochs",
        [s for s in recipe.data_stages if s.start_training_step <= step],
    )
    return {
        "trainer": TRAINER,
        "seed": recipe.general.seed,
        **({"origin": origin} if origin else {}),
        "model": {
            key: value for key, value in plain(recipe.model).items() if key != "ddp_bucket_cap_mb"
        },
        # A constant: ZeRO-1 is a circumstance, and the fingerprints of checkpoints from before have
        # this key.
        "optimizer": {**optimizer, "zero_stage": 0, "learning_rate_scheduler": schedule},
        "sequence_length": recipe.tokens.sequence_length,
        "global_batch_size": recipe.global_batch_size,
        "data": [
            {
                "start": stage.start_training_step,
                "dataset": plain(stage.data.dataset),
                "seed": stage.data.seed if stage.data.dataset.shuffle_files or epochs else None,
            }
            for stage in started
        ],
        "absent_weights": recipe.zagreus.absent_weights,
        "end_of_data": recipe.zagreus.end_of_data,
        # A constant for the same reason: the fingerprint of a recipe without `compile: true` is
        # what it was.
        "compile": False,
        "stage_schedules": [
            plain(item)
            for item in recipe.zagreus.stage_schedules
            if item.stage in {stage.name for stage in started}
        ],
        # Absent where unset: the fingerprints of checkpoints from before do not have this key.
        **({"attention": recipe.zagreus.attention} if recipe.zagreus.attention else {}),
    }


def fingerprint(value: Any) -> str:
    """Return 16 hexadecimal digits that stand for a JSON value (a recipe's slice)."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
