"""Where a segment goes on from.

Rank 0 looks for the newest save and reads it, the other ranks take from it what they need.

64 ranks that each read and hash a checkpoint of 6 GB would ask a shared file system for 390 GB.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from torch import Tensor

from zagreus.errors import InputError
from zagreus.training import checkpoint
from zagreus.training.checkpoint import State
from zagreus.training.distributed import Ranks
from zagreus.training.segment import Segment


@dataclass
class Saved:
    """A save that the segment goes on from; step 0 where there is none.

    `tensors` are on rank 0 alone.
    """

    step: int
    state: State
    log: list[str]
    tensors: dict[str, Tensor] = field(default_factory=dict)


def find_save(segment: Segment, ranks: Ranks) -> Saved:
    """Return the newest save of a segment, or else what the segment before it left.

    Raises:
        InputError: a checkpoint of another recipe or of other data. Rank 0 raises it; the others,
            which have nothing to say, exit.
    """
    told: list[Saved | None] = [None]
    error: InputError | None = None
    saved = None
    if ranks.rank == 0:
        try:
            saved = _read(segment)
            told = [Saved(saved.step, saved.state, saved.log)]
        except InputError as found:
            error = found
    if ranks.count > 1:
        dist.broadcast_object_list(told, src=0)
    if error is not None:
        raise error
    if told[0] is None:
        sys.exit(2)
    return saved or told[0]


def _read(segment: Segment) -> Saved:
    """Return the save with its tensors."""
    folder = segment.folder
    recipes = {step: segment.recipe_fingerprint(step) for step in checkpoint.saved_steps(folder)}
    step = (
        checkpoint.newest(folder, segment.previous, segment.step, recipes, segment.data)
        or segment.previous
    )
    if not step:
        return Saved(0, State(0, "", segment.data, [], 0, {}), [])
    state = checkpoint.read_state(folder / str(step))
    if state.recipe != segment.recipe_fingerprint(step) or state.data not in (None, segment.data):
        raise InputError(f"{folder / str(step)}: a checkpoint of another recipe or of other data")
    weights, optimizer, log = checkpoint.load(folder / str(step))
    return Saved(step, state, log, weights | optimizer)


def shared_reader(saved: Saved, ranks: Ranks) -> Callable[[str, torch.dtype, torch.Size], Tensor]:
    """Return a function that gives all ranks a tensor of rank 0's, by its name, dtype and shape.

    All ranks ask for the same ones in the
    same order."""

    def tensor_of(name: str, dtype: torch.dtype, shape: torch.Size) -> Tensor:
        if ranks.count == 1:
            return saved.tensors[name]
        own = ranks.rank == 0
        tensor = (
            saved.tensors[name].to(ranks.device, dtype)
            if own
            else torch.empty(shape, dtype=dtype, device=ranks.device)
        )
        dist.broadcast(tensor, src=0)
        return tensor

    return tensor_of
