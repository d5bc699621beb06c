"""The GPUs that a configuration has, and other numbers of them, for a recipe.

What each would take by the roofline.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from zagreus.plan.roofline import (
    ACCELERATORS,
    Accelerator,
    Prediction,
    Setup,
    cheapest,
    predict,
    predictions,
    shared_micro_batches,
)
from zagreus.recipe.schema import Recipe


@dataclass(frozen=True)
class Geometry:
    """A prediction and what it stands for."""

    what: str
    """`configured`, `micro batch` or `cheapest`."""
    prediction: Prediction
    """Speed and memory."""
    fits: bool
    """Whether the memory is enough."""


def device(config: Mapping[str, Any]) -> tuple[Accelerator, float | None]:
    """Return the accelerator of a config, and the rate of a node's network in bytes a second where
    the config has it.
    """
    plan = config["plan"]
    return ACCELERATORS[plan["accelerator"]], plan[
        "network_gb_s"
    ] * 1e9 if "network_gb_s" in plan else None


def setups(config: Mapping[str, Any], recipe: Recipe) -> list[Setup]:
    """Return how the config's ranks can train a recipe as the recipe wants it, a setup for each
    micro batch, the smallest first.
    """
    per_node = config["cluster"]["ranks_per_node"]
    ranks = config["cluster"]["nodes"] * per_node
    compiled, zero = (
        recipe.zagreus.compile is not False,
        recipe.optimizer.zero_stage == 1 and ranks > 1,
    )
    recompute = recipe.parallelism.recompute_layer
    return [
        Setup(ranks, per_node, size, compiled, recompute, zero)
        for size in shared_micro_batches(recipe, ranks)
    ]


def configured(config: Mapping[str, Any], recipe: Recipe, vocab_size: int) -> Prediction | None:
    """Return what a recipe takes on the config's ranks; None where they cannot share its batch.

    The trainer takes the recipe's micro batch
    or the largest part of it."""
    size = recipe.tokens.micro_batch_size
    fitting = [setup for setup in setups(config, recipe) if size % setup.micro_batch == 0]
    accelerator, network = device(config)
    return predict(recipe, vocab_size, accelerator, fitting[-1], network) if fitting else None


def geometries(config: Mapping[str, Any], recipe: Recipe, vocab_size: int) -> list[Geometry]:
    """Return the configured geometry, the same with each other micro batch up to 16, and the
    cheapest of all that fit.
    """
    accelerator, network = device(config)
    now, rows = configured(config, recipe, vocab_size), []
    for setup in setups(config, recipe):
        prediction = predict(recipe, vocab_size, accelerator, setup, network)
        if (
            prediction == now
            or setup.micro_batch & (setup.micro_batch - 1) == 0
            and setup.micro_batch <= 16
        ):
            what = "configured" if prediction == now else "micro batch"
            rows.append(
                Geometry(what, prediction, prediction.memory.total <= accelerator.memory_bytes)
            )
    per_node = config["cluster"]["ranks_per_node"]
    most = 4 * config["cluster"]["nodes"] * per_node
    worlds = [
        size
        for size in range(1, most + 1)
        if size % per_node == 0 or size < per_node and per_node % size == 0
    ]
    best = cheapest(list(predictions(recipe, vocab_size, accelerator, worlds, per_node, network)))
    return [*rows, *([Geometry("cheapest", best, True)] if best else [])]
