"""A recipe in Axolotl's schema as a file: read, and its batch shared among processes. The host asks too, so
that Axolotl and its packages stay outside."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from zagreus.errors import InputError


def load_recipe(path: Path | str) -> dict[str, Any]:
    """Read a recipe; raise `InputError` when it is missing, is not YAML, or is not a mapping."""
    try:
        recipe = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such recipe") from None
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not YAML ({' '.join(str(error).split())})") from None
    if not isinstance(recipe, dict) or not isinstance(recipe.get("datasets"), list):
        raise InputError(f"{path}: not a recipe in Axolotl's schema, it must be a mapping with a list 'datasets'")
    return recipe


def share_batch(recipe: Mapping[str, Any], batch_ranks: int, processes: int, where: str) -> dict[str, Any]:
    """Return the recipe with the accumulation that gives its batch on `processes` processes.

    Args:
        batch_ranks: the processes that the recipe's accumulation is meant for.

    Raises:
        InputError: the batch cannot be shared evenly; the message lists the numbers of processes that can.
    """
    micro, whole = recipe.get("micro_batch_size", 1), recipe.get("gradient_accumulation_steps", 1) * batch_ranks
    if whole % processes:
        possible = ", ".join(map(str, processes_of(recipe, batch_ranks)))
        raise InputError(
            f"{where}: {processes} processes cannot share {whole} micro batches of {micro} a step evenly; these numbers can: {possible}"
        )
    return {**recipe, "gradient_accumulation_steps": whole // processes}


def processes_of(recipe: Mapping[str, Any], batch_ranks: int) -> list[int]:
    """Return the numbers of processes that can share a step's micro batches evenly."""
    whole = recipe.get("gradient_accumulation_steps", 1) * batch_ranks
    return [number for number in range(1, whole + 1) if whole % number == 0]
