"""Room on disk, asked for before a download or a build starts."""

from __future__ import annotations

import shutil
from pathlib import Path

from zagreus.errors import InputError


def require_disk(folder: Path, megabytes: float, what: str) -> None:
    """Raise `InputError` (one line.

    Needed, found, where) unless the file system of `folder` has `megabytes` (10^6 bytes) free.
    """
    existing = folder.absolute()
    while not existing.exists():
        existing = existing.parent
    free = shutil.disk_usage(existing).free / 1e6
    if free < megabytes:
        raise InputError(
            f"{what} needs {megabytes / 1000:.1f} GB on the disk of {existing}, {free / 1000:.1f} "
            "GB are free there"
        )
