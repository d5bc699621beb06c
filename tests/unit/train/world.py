"""Ranks that meet over Gloo, forked from the test.

A rank starts in milliseconds, since torch is there.
"""

from __future__ import annotations

import multiprocessing
import pickle
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from zagreus.training.distributed import Ranks

_METHODS = multiprocessing.get_context("fork")


def together(count: int, folder: Path, work: Callable[[Ranks], Any]) -> list[Any]:
    """Run a function on each of `count` ranks; return the results in the ranks' order.

    Raise what a rank raised.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ranks = [
        _METHODS.Process(target=_rank, args=(rank, count, folder, work)) for rank in range(count)
    ]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(120)
    results = []
    for rank in range(count):
        ended, result = pickle.loads((folder / f"{rank}.pickle").read_bytes())
        if not ended:
            raise AssertionError(f"rank {rank}: {result}")
        results.append(result)
    return results


def _rank(rank: int, count: int, folder: Path, work: Callable[[Ranks], Any]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=count
    )
    try:
        result = (True, work(Ranks(rank, count, torch.device("cpu"))))
    except BaseException:  # told to the test
        result = (False, traceback.format_exc())
    (folder / f"{rank}.pickle").write_bytes(pickle.dumps(result))
    dist.destroy_process_group()
