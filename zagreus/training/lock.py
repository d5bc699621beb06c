"""One training at a time in a checkpoint folder."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from zagreus.lock import try_lock, wait_lock


def lock(folder: Path) -> int:
    """Wait until no other process trains into `folder`, and keep others out until this process (or
    what it becomes) ends.

    Raises:
        InputError: a file system without locks.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = try_lock(folder / ".lock")
    if descriptor is None:
        print(
            f"{folder}: another process is training here; waiting until it ends",
            file=sys.stderr,
            flush=True,
        )
        descriptor = wait_lock(folder / ".lock")
    os.set_inheritable(descriptor, True)
    return descriptor
