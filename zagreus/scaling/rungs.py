"""The rungs of a ladder, from the manifests and logs of their trainings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from zagreus.errors import InputError
from zagreus.manifest import read_manifest
from zagreus.recipe.cost import parameters
from zagreus.recipe.schema import Model, Recipe
from zagreus.recipe.strict import build
from zagreus.scaling.law import Runs
from zagreus.scaling.log import heldout_loss


@dataclass(frozen=True)
class Rung:
    """A finished training of the ladder."""

    name: str
    """Name of the rung."""
    parameters: int
    """N: parameters, the embedding counted once and included."""
    tokens: int
    """D: tokens trained on."""
    loss: float
    """Held-out loss after the last step, in nats a token."""
    vocab_size: int
    """Tokens of the vocabulary."""


def read_rung(manifest_path: Path) -> Rung:
    """Read a rung from its checkpoint's manifest and from the training log beside it.

    Raises:
        InputError: no manifest of a checkpoint, or a log without held-out loss at the last step.
    """
    manifest = read_manifest(manifest_path, "checkpoint")
    model = build(Model, manifest["recipe"]["model"], f"{manifest_path}: model")
    return Rung(
        name=manifest["model"],
        parameters=parameters(model.model_config, model.padded_vocab_size),
        tokens=manifest["tokens_seen"],
        loss=heldout_loss(manifest_path.with_suffix(".jsonl"), manifest["step"]),
        vocab_size=model.model_config.vocab_size,
    )


def runs_of(rungs: Sequence[Rung]) -> Runs:
    """Return the rungs as arrays.

    Raises:
        InputError: the rungs have different vocabularies, so that their losses do not compare.
    """
    sizes = sorted({rung.vocab_size for rung in rungs})
    if len(sizes) != 1:
        raise InputError(f"rungs: found vocabularies of {sizes} tokens, expected one tokenizer")
    columns = [(rung.parameters, rung.tokens, rung.loss) for rung in rungs]
    return Runs(*np.array(columns, dtype=np.float64).T)


def target_parameters(recipe: Recipe, vocab_size: int) -> int:
    """Return N of the model whose loss is predicted, with the rungs' vocabulary."""
    model = recipe.model
    if model.model_config.vocab_size < 0:
        model = replace(model, model_config=replace(model.model_config, vocab_size=vocab_size))
    return parameters(model.model_config, model.padded_vocab_size)
