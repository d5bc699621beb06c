"""This process among those that train together."""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist

from zagreus.errors import InputError

# How long a collective may take before the run ends. It covers what a rank does between two of
# them: the first step's compilation, and rank 0's wait for a checkpoint that a slow file system has
# not taken yet.
TIMEOUT = timedelta(minutes=20)

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h


@dataclass
class Ranks:
    """This process among those that train together."""

    rank: int
    count: int
    device: torch.device


def join_ranks(device: str) -> Ranks:
    """Take this process's place: the one that torchrun gave it, or alone."""
    count, rank, local = (
        int(os.environ.get(key, default))
        for key, default in (("WORLD_SIZE", "1"), ("RANK", "0"), ("LOCAL_RANK", "0"))
    )
    # Whatever OMP_NUM_THREADS says: Snakemake sets it to the job's cores, which the ranks share. A
    # job without a container, where it comes through, trained at a third of the speed, and to other
    # bits.
    torch.set_num_threads(1)
    if device == "cpu":
        _keep_memory()
    if device == "cuda":
        if not torch.cuda.is_available():
            raise InputError("--device cuda: this machine or image has no CUDA device")
        torch.cuda.set_device(local)
    here = torch.device(device, local) if device == "cuda" else torch.device("cpu")
    if count > 1 and device == "cuda":
        # With its device NCCL connects at once: a broken fabric ends the run here, not in the first
        # step.
        dist.init_process_group("nccl", device_id=here, timeout=TIMEOUT)
    elif count > 1:
        dist.init_process_group("gloo", timeout=TIMEOUT)
    return Ranks(rank, count, here)


def _keep_memory() -> None:
    """Have the allocator keep freed memory.

    Blocks of logits come and go many times a step. glibc would hand each back to the kernel and
    fault its pages in anew: measured, a sixth of the time of the demo's model.
    """
    allocator = ctypes.CDLL(None)
    allocator.mallopt(_M_MMAP_THRESHOLD, 2**30)
    allocator.mallopt(_M_TRIM_THRESHOLD, 2**30)
