"""Recipe files of base models, as the rules ask for them."""

from __future__ import annotations

from zagreus.config.start_checks import parsed_recipe
from zagreus.recipe.read import fingerprint, recipe_slice


def recipe_fingerprint(file: str, step: int) -> str:
    """Return what stands for the part of a recipe file that decides the weights at a step.

    The parser is called once for each file: parsing takes 20 ms, and every checkpoint asks for it.
    """
    return fingerprint(recipe_slice(parsed_recipe(file), step))
