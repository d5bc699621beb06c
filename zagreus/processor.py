"""What kind of processor this is: the last bits of a float sum depend on its instruction set."""

from __future__ import annotations

import platform
import re
from pathlib import Path

# Flags that a level of the x86-64 psABI needs beyond the level below (the telling ones).
LEVELS = {
    "x86-64-v4": {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"},
    "x86-64-v3": {"avx2", "bmi1", "bmi2", "fma", "movbe"},
    "x86-64-v2": {"sse4_2", "popcnt", "ssse3"},
}


def processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Return the processor's level and name, for example `x86-64-v4, Intel(R) Xeon(R) Processor`.

    Args:
        cpuinfo: the kernel's description; where there is none, the architecture alone is returned.
    """
    try:
        text = cpuinfo.read_text(encoding="utf-8")
    except OSError:
        return platform.machine()
    flags = re.search(r"^flags\s*:\s*(.*)$", text, re.MULTILINE)
    name = re.search(r"^model name\s*:\s*(.*)$", text, re.MULTILINE)
    if flags is None:
        return platform.machine()
    known = set(flags[1].split())
    level = next((level for level, wanted in LEVELS.items() if wanted <= known), "x86-64-v1")
    return f"{level}, {name[1].strip()}" if name else level
