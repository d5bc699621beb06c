"""Whether all ranks hold the same weights.

A broken GPU or a missed sum shows here, before a checkpoint is written.
"""

from __future__ import annotations

import os
import socket
from collections import Counter

import torch
import torch.distributed as dist
from torch import Tensor

from zagreus.errors import InputError
from zagreus.training.distributed import Ranks

# The integers whose bits are those of a weight.
_BITS = {torch.float32: torch.int32, torch.bfloat16: torch.int16}


def checksum(weights: Tensor) -> Tensor:
    """Return the sum of the bits of flat weights as integers.

    Int64, a scalar on their device, read in one pass.
    """
    return weights.view(_BITS[weights.dtype]).sum(dtype=torch.int64)


def check_agreement(weights: Tensor, ranks: Ranks, step: int) -> None:
    """Compare the weights of all ranks; all of them must call it.

    Raises:
        InputError: they differ; it names the ranks whose weights most others do not have.
    """
    if ranks.count == 1:
        return
    own = checksum(weights)
    extremes = torch.stack((own, -own))
    dist.all_reduce(extremes, op=dist.ReduceOp.MAX)
    highest, negated_lowest = extremes.tolist()
    if highest == -negated_lowest:
        return
    host = os.environ.get("SLURMD_NODENAME") or socket.gethostname()
    checksums: list[tuple[int, str]] = [(0, "")] * ranks.count
    dist.all_gather_object(checksums, (int(own), host))
    raise InputError(
        f"step {step}: {_others(checksums)}; no checkpoint was written: a broken device, or a sum "
        "that one rank missed. Leave the node out and start again from the last checkpoint"
    )


def _others(checksums: list[tuple[int, str]]) -> str:
    """Return which ranks do not hold the weights that most hold, for the checksum and host of each
    rank.
    """
    (common, count), *_ = Counter(value for value, _ in checksums).most_common(1)
    if count * 2 <= len(checksums):  # no side has the majority
        return "weights differ between ranks: " + ", ".join(
            f"rank {rank} on {host} has {value}" for rank, (value, host) in enumerate(checksums)
        )
    others = [
        f"rank {rank} on {host}" for rank, (value, host) in enumerate(checksums) if value != common
    ]
    return (
        f"{' and '.join(others)} {'hold' if len(others) > 1 else 'holds'} other weights than "
        f"the other {count} ranks"
    )
