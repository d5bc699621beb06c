"""A recipe in Axolotl's schema as a file: read, and its batch shared among processes.

The host asks too, so
that Axolotl and its packages stay outside."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zagreus.config.yaml_file import read_mapping
from zagreus.errors import InputError
from zagreus.posttraining.ranges import check_ranges


def load_recipe(path: Path | str) -> dict[str, Any]:
    """Read a recipe.

    Raise `InputError` when it is missing, is not YAML, is not a mapping, or has a number outside
    its range.
    """
    if not Path(path).exists():
        raise InputError(f"{path}: no such recipe")
    recipe = read_mapping(path)
    if not isinstance(recipe.get("datasets"), list):
        raise InputError(
            f"{path}: not a recipe in Axolotl's schema, it must be a mapping with a list 'datasets'"
        )
    check_ranges(recipe, str(path))
    return recipe


def share_batch(
    recipe: Mapping[str, Any], batch_ranks: int, processes: int, where: str
) -> dict[str, Any]:
    """Return the recipe with the accumulation that gives its batch on `processes` processes.

    Args:
        recipe: in Axolotl's schema, or in TRL's, which spells the accumulation the same.
        batch_ranks: the processes that the recipe's accumulation is meant for.

    Raises:
        InputError: the batch cannot be shared evenly; the message lists the numbers of processes
            that can.
    """
    micro, whole = (
        recipe.get("micro_batch_size", recipe.get("per_device_train_batch_size", 1)),
        recipe.get("gradient_accumulation_steps", 1) * batch_ranks,
    )
    if whole % processes:
        possible = ", ".join(map(str, processes_of(recipe, batch_ranks)))
        raise InputError(
            f"{where}: {processes} processes cannot share {whole} micro batches of {micro} a step "
            f"evenly; these numbers can: {possible}"
        )
    return {**recipe, "gradient_accumulation_steps": whole // processes}


def processes_of(recipe: Mapping[str, Any], batch_ranks: int) -> list[int]:
    """Return the numbers of processes that can share a step's micro batches evenly."""
    whole = recipe.get("gradient_accumulation_steps", 1) * batch_ranks
    return [number for number in range(1, whole + 1) if whole % number == 0]


def validation_rows(size: Any, rows: int, name: str) -> int:
    """Return how many rows Axolotl sets apart for a `val_set_size`: a share below 1, or a number.

    Raises:
        InputError: no row would be left for training.
    """
    if not size:
        return 0
    if isinstance(size, bool) or not isinstance(size, int | float) or not 0 < size < math.inf:
        expected = "expected a share below 1 or a number of rows"
        raise InputError(f"{name}: val_set_size is {size}, {expected}")
    apart = math.ceil(size * rows) if size < 1 else int(size)
    if apart >= rows:
        problem = f"val_set_size {size} sets {apart:,} of {rows:,} rows apart"
        raise InputError(f"{name}: {problem} and leaves none to train on, expected fewer")
    return apart
