"""One training at a time in a checkpoint folder."""

from __future__ import annotations

import fcntl
import os
import sys
from pathlib import Path


def lock(folder: Path) -> int:
    """Wait until no other process trains into `folder`, and keep others out until this process (or what it becomes) ends."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT)
    os.set_inheritable(descriptor, True)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(f"{folder}: another process is training here; waiting until it ends", file=sys.stderr, flush=True)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    return descriptor
