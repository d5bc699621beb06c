"""Whether a training fits its memory: said at the start of a run, and before anything is allocated.

Standard library only.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from typing import Any

from zagreus.errors import InputError
from zagreus.platform.builds import on_gpus
from zagreus.recipe.cost import checkpoint_bytes, model_bytes, parameters
from zagreus.recipe.schema import Recipe

LOGITS_ROWS = 256  # rows of logits that the loss holds at a time, at the least
LARGEST_GPU = 288e9  # bytes; no GPU has more memory today
# Bytes that a training asks Slurm for at most where the configuration has no `memory_mb_per_node`:
# zagreus/workflow/cluster.py, three attempts.
DEFAULT_MEMORY = 9e9


def least_memory(recipe: Recipe, vocabulary: int, ranks: int) -> float:
    """Return the bytes that one process of a training holds at the least.

    Weights, gradients, optimizer states, the input of every layer, a block of logits. Whatever
    needs more than there is can never fit; whatever needs less may still be too large.

    Args:
        recipe: the recipe.
        vocabulary: rows of the embedding.
        ranks: all processes of the training; ZeRO-1 shares the optimizer's states among them.
    """
    shape, count = recipe.model.model_config, parameters(recipe.model.model_config, vocabulary)
    weights = model_bytes(recipe, vocabulary)
    gradients = 4 * count if recipe.optimizer.accumulate_grad_in_fp32 else weights
    states = checkpoint_bytes(recipe, vocabulary) - weights
    if recipe.optimizer.zero_stage == 1:
        states //= ranks
    # A rank takes the largest part of a micro batch that lets all share a step evenly
    # (zagreus/training/segment.py).
    sequences = math.gcd(recipe.tokens.micro_batch_size, recipe.global_batch_size // ranks) or 1
    tokens = sequences * recipe.tokens.sequence_length
    activations = tokens * shape.hidden_size * shape.num_hidden_layers * (weights // count)
    return weights + gradients + states + activations + 4 * min(LOGITS_ROWS, tokens) * vocabulary


def require_memory(
    recipe: Recipe,
    where: str,
    here: int,
    ranks: int,
    available: int | None = None,
    owner: str = "this machine",
) -> None:
    """Raise `InputError` where the processes on a machine, or the one on a GPU, need more memory
    than there is.

    Args:
        recipe: the recipe, its vocabulary filled in.
        where: the recipe's file, for the message.
        here: processes that share the memory.
        ranks: all processes of the training.
        available: bytes of memory; this machine's when not given.
        owner: whose memory that is, for the message.
    """
    available = machine_memory() if available is None else available
    for problem in _problem(recipe, recipe.model.padded_vocab_size, here, ranks, available, owner):
        raise InputError(f"{where}: {problem}")


def size_problems(config: Mapping[str, Any], recipe: Recipe, where: str) -> Iterator[str]:
    """Yield a training that no memory of the configured machines holds.

    A GPU is compared with the largest that there is. A node without `memory_mb_per_node` is this
    machine.

    Args:
        config: the whole configuration.
        recipe: of one of its models.
        where: the place of the recipe in the configuration.
    """
    cluster, shape = config["cluster"], recipe.model.model_config
    vocabulary = (
        config["tokenizer"].get("vocab_size", 1) if shape.vocab_size < 0 else shape.vocab_size
    )
    multiple = recipe.model.make_vocab_size_divisible_by
    rows = -(-vocabulary // multiple) * multiple
    here, ranks = cluster["ranks_per_node"], cluster["nodes"] * cluster["ranks_per_node"]
    if on_gpus(config["torch"]):
        problems = _problem(recipe, rows, 1, ranks, LARGEST_GPU, "the largest GPU")
    elif "memory_mb_per_node" in cluster:
        problems = _problem(
            recipe,
            rows,
            here,
            ranks,
            cluster["memory_mb_per_node"] * 1e6,
            "a node (cluster.memory_mb_per_node)",
        )
    else:
        problems = _problem(
            recipe, rows, here, ranks, max(machine_memory(), DEFAULT_MEMORY), "this machine"
        )
    yield from (f"{where}: {problem}" for problem in problems)


def machine_memory() -> int:
    """Return the bytes of memory of this machine."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _problem(
    recipe: Recipe, rows: int, here: int, ranks: int, available: float, owner: str
) -> Iterator[str]:
    needed = here * least_memory(recipe, rows, ranks)
    if needed > available:
        count = parameters(recipe.model.model_config, rows)
        processes = "1 process" if here == 1 else f"{here} processes"
        yield (
            f"a model of {count / 1e6:,.1f} million parameters, micro batches of "
            f"{recipe.tokens.micro_batch_size:,} x {recipe.tokens.sequence_length:,} tokens, needs "
            f"at least {_show(needed)} in {processes}, {owner} has {_show(available)}"
        )


def _show(size: float) -> str:
    """Return a number of bytes for a message: in GB, or below 0.1 GB in MB."""
    return f"{size / 1e9:,.1f} GB" if size >= 1e8 else f"{size / 1e6:,.0f} MB"
