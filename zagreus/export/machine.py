"""What a runtime needs of this machine: instructions of the processor, memory."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from pathlib import Path

from zagreus.errors import InputError

# What the x86-64 wheel of xllamacpp is built with (its `get_system_info`), as Linux names them.
INSTRUCTIONS = ("avx", "avx2", "f16c", "fma", "bmi2")
# Keys, values and the buffers of a computation, beside the weights, of models up to a billion
# parameters: measured with 2,048 positions.
WORKING_BYTES = 256 * 1024**2


def check_instructions(cpuinfo: Path = Path("/proc/cpuinfo")) -> None:
    """Raise `InputError` where the processor would stop at an instruction of llama.cpp's."""
    if platform.machine() != "x86_64":
        return
    flags: set[str] = set()
    for line in cpuinfo.read_text(encoding="utf-8").splitlines():
        if line.startswith("flags"):
            flags = set(line.partition(":")[2].split())
            break
    missing = [name for name in INSTRUCTIONS if name not in flags]
    if missing:
        raise InputError(
            f"this processor has no {', '.join(missing)}; llama.cpp of the package xllamacpp needs "
            f"{', '.join(INSTRUCTIONS)}"
        )


def check_memory(
    path: Path,
    context: int,
    meminfo: Path = Path("/proc/meminfo"),
    groups: Path = Path("/sys/fs/cgroup"),
    *,
    copies: int = 1,
) -> None:
    """Raise `InputError` where a model file does not fit the memory that is free.

    Args:
        path: the model file.
        context: positions that keys and values are kept of.
        meminfo: Linux's account of memory.
        groups: Linux's control groups (version 2), by which Slurm and containers set limits.
        copies: how many times the runtime holds the file while it loads.
    """
    known = [*_available(meminfo), *_below_limit(groups)]
    needed = copies * path.stat().st_size + WORKING_BYTES * max(1, context // 2048)
    if known and needed > min(known):
        raise InputError(
            f"{path}: needs {needed / 1e9:.1f} GB of memory with a context of {context:,} tokens, "
            f"{min(known) / 1e9:.1f} GB are free"
        )


def _available(meminfo: Path) -> Iterator[int]:
    for line in meminfo.read_text(encoding="utf-8").splitlines():
        if line.startswith("MemAvailable:"):
            yield int(line.split()[1]) * 1024


def _below_limit(groups: Path, own: Path = Path("/proc/self/cgroup")) -> Iterator[int]:
    """Yield what is left below the limit of this process's group and of those above it."""
    try:
        cgroup = own.read_text(encoding="utf-8").splitlines()[-1].rpartition(":")[2].strip("/")
    except (OSError, IndexError):
        return
    for folder in [groups / cgroup, *(groups / cgroup).parents]:
        if not folder.is_relative_to(groups):
            return
        try:
            limit = (folder / "memory.max").read_text(encoding="utf-8").strip()
            used = int((folder / "memory.current").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if limit.isdecimal():
            yield int(limit) - used
