"""A recipe of a distillation: keys of TRL's DistillationConfig, each with its range.

Standard library and yaml only: the host reads recipes too. A key that stands in no table here is an
error: the run decides it, or nobody has tried it with this pipeline.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from zagreus.config.problems import raise_all
from zagreus.config.yaml_file import read_mapping
from zagreus.errors import InputError
from zagreus.posttraining.ranges import WHOLE_SHARE
from zagreus.recipe.ranges import ABOVE_0, FROM_0, FROM_1, RATE, SEED, SHARE, Range

COUNTS = {
    "seed": SEED,
    **dict.fromkeys(["per_device_train_batch_size", "gradient_accumulation_steps"], FROM_1),
    **dict.fromkeys(["max_length", "max_completion_length", "num_generations"], FROM_1),
    **dict.fromkeys(["max_steps", "logging_steps", "save_steps", "save_total_limit"], FROM_1),
    **dict.fromkeys(["warmup_steps", "top_k"], FROM_0),
}
NUMBERS = {
    "learning_rate": RATE,
    **dict.fromkeys(["num_train_epochs", "temperature", "adam_epsilon"], ABOVE_0),
    **dict.fromkeys(["weight_decay", "max_grad_norm"], FROM_0),
    **dict.fromkeys(["adam_beta1", "adam_beta2"], SHARE),
    "top_p": Range(0, 1, low_open=True),
    "beta": WHOLE_SHARE,
}
SWITCHES = ("bf16", "gradient_checkpointing")
SCHEDULERS = ("constant", "constant_with_warmup", "linear", "cosine")
OPTIMIZERS = ("adamw_torch", "adamw_torch_fused")
KEYS = (*COUNTS, *NUMBERS, *SWITCHES, "lr_scheduler_type", "optim")
NEEDED = (
    "seed",
    "per_device_train_batch_size",
    "max_length",
    "max_completion_length",
    "learning_rate",
    "temperature",
    "beta",
)


def load_distillation(path: Path | str) -> dict[str, Any]:
    """Read a recipe of a distillation.

    Raises:
        InputError: it is missing, is not YAML, or has keys or values that are not expected.
    """
    if not Path(path).exists():
        raise InputError(f"{path}: no such recipe")
    recipe = read_mapping(path)
    raise_all(_problems(recipe), str(path))
    return recipe


def _problems(recipe: Mapping[str, Any]) -> Iterator[str]:
    for key, value in recipe.items():
        if key not in KEYS:
            near = difflib.get_close_matches(str(key), KEYS, 1)
            meant = f"did you mean '{near[0]}'?" if near else "expected keys of TRL's trainer"
            yield f"unknown key '{key}', {meant} (docs/posttraining.md)"
        else:
            yield from _value_problems(key, value)
    missing = [key for key in NEEDED if key not in recipe]
    if missing:
        yield f"{', '.join(missing)}: missing"
    if ("max_steps" in recipe) == ("num_train_epochs" in recipe):
        yield "expected max_steps or num_train_epochs, one of them"
    lengths = recipe.get("max_length"), recipe.get("max_completion_length")
    if type(lengths[0]) is int and type(lengths[1]) is int and lengths[0] <= lengths[1]:
        yield f"max_length: found {lengths[0]}, expected more than max_completion_length"


def _value_problems(key: str, value: Any) -> Iterator[str]:
    if key in COUNTS and (type(value) is not int or not COUNTS[key].holds(value)):
        yield f"{key}: found {value!r}, expected a whole number, {COUNTS[key]}"
    elif key in NUMBERS and (type(value) not in (int, float) or not NUMBERS[key].holds(value)):
        yield f"{key}: found {value!r}, expected {NUMBERS[key]}"
    elif key in SWITCHES and not isinstance(value, bool):
        yield f"{key}: found {value!r}, expected true or false"
    for name, options in (("lr_scheduler_type", SCHEDULERS), ("optim", OPTIMIZERS)):
        if key == name and value not in options:
            yield f"{key}: found {value!r}, expected one of {', '.join(options)}"
