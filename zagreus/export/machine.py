"""What a runtime needs of this machine: instructions of the processor, memory."""

from __future__ import annotations

import platform
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


def check_memory(path: Path, context: int, meminfo: Path = Path("/proc/meminfo")) -> None:
    """Raise `InputError` where a model file does not fit the memory that is free.

    Args:
        path: the model file, which is held whole.
        context: positions that keys and values are kept of.
        meminfo: Linux's account of memory.
    """
    for line in meminfo.read_text(encoding="utf-8").splitlines():
        if line.startswith("MemAvailable:"):
            free = int(line.split()[1]) * 1024
            break
    else:
        return
    needed = path.stat().st_size + WORKING_BYTES * max(1, context // 2048)
    if needed > free:
        raise InputError(
            f"{path}: needs {needed / 1e9:.1f} GB of memory with a context of {context:,} tokens, "
            f"{free / 1e9:.1f} GB are free"
        )
