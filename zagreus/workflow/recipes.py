"""Recipe files of base models, as the rules ask for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zagreus.recipe.ladder import recipe_of
from zagreus.recipe.read import fingerprint, recipe_slice


def recipe_fingerprint(pretrain: Mapping[str, Any], step: int) -> str:
    """Return what stands for the part of a recipe that decides the weights at a step.

    Args:
        pretrain: the entry of a base model, or of a rung.
        step: the checkpoint.

    The parser is called once for each file: parsing takes 20 ms, and every checkpoint asks for it.
    """
    return fingerprint(recipe_slice(recipe_of(pretrain), step))
