"""The GPUs of a machine without Slurm: which there are, and which of them a job has for itself.

Snakemake starts no more jobs than there are GPUs (resource `gpu_slots`). Which GPU a job computes
on is decided here: each job holds the kernel's lock on a file per GPU, from its start to the end
of its last process. Jobs of several runs on one machine share the GPUs by the same files.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from zagreus.errors import InputError
from zagreus.lock import try_lock
from zagreus.platform.driver import ask_nvidia_smi

# The GPUs that the jobs of a run share, as CUDA_VISIBLE_DEVICES names them: "0,1". The run sets
# the variable; under Slurm, which gives each job its own GPUs, the variable is empty.
SHARED = "ZAGREUS_GPUS"
VISIBLE = "CUDA_VISIBLE_DEVICES"
# /tmp, as the images see it too.
FOLDER = Path("/tmp")


def gpus_here() -> list[str]:
    """Return the machine's GPUs: those of CUDA_VISIBLE_DEVICES if it is set, else nvidia-smi's."""
    if VISIBLE in os.environ:
        return [name.strip() for name in os.environ[VISIBLE].split(",") if name.strip()]
    lines = ask_nvidia_smi("--query-gpu=index", "--format=csv,noheader")
    return [line.strip() for line in lines if line.strip().isdigit()]


def require_gpus(here: Sequence[str], jobs: Iterable[tuple[str, int]], build: str) -> None:
    """Raise `InputError` where a job needs more GPUs than this machine has.

    Args:
        here: the machine's GPUs.
        jobs: rule and number of GPUs of each job.
        build: the configuration's `torch`, for the message.
    """
    for rule, count in jobs:
        if count <= len(here):
            continue
        if not here:
            raise InputError(
                f"torch: {build}: {rule} computes on a GPU, and this machine has none that "
                f"nvidia-smi or {VISIBLE} names; set `torch: cpu`"
            )
        raise InputError(
            f"cluster.ranks_per_node: {rule} asks for {count} GPUs, and this machine has "
            f"{len(here)}; set `cluster: {{nodes: 1, ranks_per_node: {len(here)}}}`"
        )


def claim_gpus(count: int, poll_s: float = 1.0) -> list[str]:
    """Take GPUs for this process and its children, and set CUDA_VISIBLE_DEVICES to them.

    Nothing happens where no run shares GPUs (`ZAGREUS_GPUS` is empty): on CPUs, and under Slurm.
    The GPUs are free again when the last process that inherited the locks has ended.

    Args:
        count: how many GPUs.
        poll_s: seconds between two looks at the GPUs while too few are free.

    Returns:
        The names of the GPUs, in the run's order.

    Raises:
        InputError: more GPUs than the run shares.
    """
    shared = [name for name in os.environ.get(SHARED, "").split(",") if name]
    if not shared:
        return []
    if count > len(shared):
        raise InputError(f"{SHARED}: {len(shared)} GPUs ({','.join(shared)}), expected {count}")
    folder = FOLDER / f"zagreus-gpus-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    waiting = False
    while (claimed := _take(folder, shared, count)) is None:
        if not waiting:
            print(f"waiting for {count} of the GPUs {','.join(shared)}", flush=True)
            waiting = True
        time.sleep(poll_s)
    os.environ[VISIBLE] = ",".join(claimed)
    # The children of this process take their GPUs from CUDA_VISIBLE_DEVICES.
    del os.environ[SHARED]
    return claimed


def _take(folder: Path, shared: Sequence[str], count: int) -> list[str] | None:
    """Lock `count` GPUs, or none: two jobs that each held a half would wait for ever."""
    held: dict[str, int] = {}
    for name in shared:
        if len(held) == count:
            break
        descriptor = try_lock(folder / name.replace("/", "_"))
        if descriptor is not None:
            held[name] = descriptor
    if len(held) < count:
        for descriptor in held.values():
            os.close(descriptor)
        return None
    for descriptor in held.values():
        os.set_inheritable(descriptor, True)
    return list(held)
