"""ZeRO-1 over flat memory.

Which elements of it a rank updates, and how all ranks get the result (Rajbhandari et al., 2020).

Weights and gradients are whole on each rank. Adam's moments and the fp32 master weights are not: a
rank has them for the elements that it owns.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

# Elements. Edges of slices are multiples of it from the start of their unit, so that a fused update
# takes each element in the same vector as without slices, and gives the same bits.
ALIGNMENT = 64


@dataclass(frozen=True)
class Sharding:
    """That the optimizer's state is spread over `world_size` ranks, of which this is `rank`.

    scatter: gradients are summed by reduce-scatter: a rank has the sums of its own elements alone
        (NCCL). Without it they are summed as without ZeRO-1, so that all results are the same to
        the last bit (Gloo). bucket_bytes: gradients of one reduce-scatter.
    """

    rank: int
    world_size: int
    scatter: bool
    bucket_bytes: int


@dataclass(frozen=True)
class Unit:
    """A range of flat memory, start to end, that ranks share out among themselves.

    One slice each, in their order.
    """

    start: int
    end: int
    world_size: int

    @property
    def width(self) -> int:
        """Elements of a slice; the last ones may be shorter or empty."""
        share = -(-(self.end - self.start) // self.world_size)
        return -(-share // ALIGNMENT) * ALIGNMENT

    @property
    def even(self) -> bool:
        """Whether all slices are equally long, as collectives over one tensor want."""
        return self.width * self.world_size == self.end - self.start

    def slice_of(self, rank: int) -> tuple[int, int]:
        """Return first and last + 1 element of a rank's slice."""
        start = min(self.start + rank * self.width, self.end)
        return start, min(start + self.width, self.end)

    def gather(self, tensor: Tensor, rank: int, first: int = 0) -> None:
        """Have all ranks fill the unit's range of a tensor, whose first element is `first` of the
        flat memory, from their slices of it.
        """
        part = tensor[self.start - first : self.end - first]
        start, end = self.slice_of(rank)
        if self.even:
            own = tensor[start - first : end - first]
            # NCCL gathers in place; Gloo wants an input of its own.
            dist.all_gather_into_tensor(part, own if tensor.is_cuda else own.clone())
            return
        for owner in range(self.world_size):
            start, end = self.slice_of(owner)
            if start < end:
                dist.broadcast(tensor[start - first : end - first], src=owner)


def group_units(groups: list[tuple[int, int]], world_size: int) -> list[Unit]:
    """Return a unit for each range of the flat memory that has its own weight decay."""
    return [Unit(start, end, world_size) for start, end in groups]


def bucket_units(size: int, embedding_end: int, bucket: int, world_size: int) -> list[Unit]:
    """Return units with even slices that cover `size` elements and up to `ALIGNMENT * world_size` -
    1 more.

    Args:
        embedding_end: the embedding's gradients are the last to be finished; the first unit is the
            embedding and ends as soon after it as slices can.
        bucket: elements of each other unit, rounded up.
    """
    multiple = ALIGNMENT * world_size
    first, width, capacity = (
        -(-count // multiple) * multiple for count in (embedding_end, bucket, size)
    )
    points = [0, *range(min(first, capacity), capacity, max(width, multiple)), capacity]
    return [
        Unit(start, end, world_size)
        for start, end in zip(points, points[1:], strict=False)
        if start < end
    ]


def gathered(local: Tensor, units: list[Unit], sharding: Sharding, size: int) -> Tensor | None:
    """Return all elements of a tensor of which each rank has its slices, one after the other.

    On the CPU of rank 0, None elsewhere.
    """
    whole = torch.empty(size, dtype=local.dtype) if sharding.rank == 0 else None
    offset = 0
    for unit in units:
        buffer = torch.empty(unit.end - unit.start, dtype=local.dtype, device=local.device)
        start, end = unit.slice_of(sharding.rank)
        buffer[start - unit.start : end - unit.start] = local[offset : offset + end - start]
        offset += end - start
        unit.gather(buffer, sharding.rank, unit.start)
        if whole is not None:
            last = min(unit.end, size)
            whole[unit.start : last] = buffer[: last - unit.start]
    return whole
