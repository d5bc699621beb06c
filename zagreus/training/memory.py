"""Whether a training fits the memory of this machine: said before anything is allocated. Standard library only."""

from __future__ import annotations

import os

from zagreus.cost import checkpoint_bytes, parameters
from zagreus.errors import InputError
from zagreus.nanotron import Recipe

GRADIENT = 4  # bytes of a parameter's gradient sum
LOGITS_ROWS = 256  # rows of logits that the loss holds at a time, at the least


def require_memory(recipe: Recipe, where: str, ranks: int, available: int | None = None) -> None:
    """Raise `InputError` where weights, optimizer states and gradients of all ranks on this machine exceed its memory.

    Activations are not counted: what is refused can never fit, and what is let through may still be too large.

    Args:
        recipe: the recipe, its vocabulary filled in.
        where: the recipe's file, for the message.
        ranks: processes that train on this machine.
        available: bytes of memory; this machine's when not given.
    """
    if available is None:
        available = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    vocabulary = recipe.model.padded_vocab_size
    count = parameters(recipe.model.model_config, vocabulary)
    needed = ranks * (checkpoint_bytes(recipe, vocabulary) + count * GRADIENT + LOGITS_ROWS * vocabulary * 4)
    if needed > available:
        raise InputError(
            f"{where}: a model of {count / 1e6:,.1f} million parameters needs at least {needed / 1e9:,.1f} GB in {ranks} processes, "
            f"this machine has {available / 1e9:,.1f} GB"
        )
