"""What kind of processor this is: the last bits of a float sum depend on its instruction set."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

# Flags that a level of the x86-64 psABI needs beyond the level below (the telling ones).
LEVELS = {
    "x86-64-v4": {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"},
    "x86-64-v3": {"avx2", "bmi1", "bmi2", "fma", "movbe"},
    "x86-64-v2": {"sse4_2", "popcnt", "ssse3"},
}


# Makers, as the processors' names tell them; libraries choose other code for each.
MAKERS = ("Intel", "AMD", "Apple", "Neoverse")
# Levels that have AVX2, which the portable mode needs.
WIDE = ("x86-64-v3", "x86-64-v4")
# Set for a run whose sums are the same on every x86-64 processor from AVX2 on.
PORTABLE = "ZAGREUS_PORTABLE"


def kind_of(name: str) -> str:
    """Return the kind of a processor: what decides the last bits of float sums.

    Args:
        name: as `processor` returns it.

    Returns:
        level and maker, for example `x86-64-v4 Intel`; `portable` for a run in that mode.
    """
    level, _, model = name.partition(", ")
    if level == "portable":
        return level
    maker = next((maker for maker in MAKERS if maker.lower() in model.lower()), "")
    return f"{level} {maker}".strip()


def processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Return the processor's level and name, for example `x86-64-v4, Intel(R) Xeon(R) Processor`.

    `portable, ` and these stand for a program that runs in the portable mode.

    Args:
        cpuinfo: the kernel's description; where there is none, the architecture alone is returned.
    """
    native = _native(cpuinfo)
    return f"portable, {native}" if is_portable() and native.startswith(WIDE) else native


def is_portable() -> bool:
    """Return whether this program runs in the portable mode (`portable: true`)."""
    return os.environ.get(PORTABLE) == "1"


def _native(cpuinfo: Path) -> str:
    try:
        text = cpuinfo.read_text(encoding="utf-8")
    except OSError:
        return platform.machine()
    flags = re.search(r"^flags\s*:\s*(.*)$", text, re.MULTILINE)
    name = re.search(r"^model name\s*:\s*(.*)$", text, re.MULTILINE)
    if flags is None:
        return platform.machine()
    known = set(flags[1].split())
    level = next((level for level, needed in LEVELS.items() if needed <= known), "x86-64-v1")
    return f"{level}, {name[1].strip()}" if name else level
