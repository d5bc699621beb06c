"""A small disk that is full, or nearly so, under a script.

One line, nothing at a final name, and with room the script completes.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.unit.forked import Done

# Bytes that are free: none, a page, enough for some files and not for all of them.
ROOMS = (0, 4096, 12288, 32768, 81920)
SAID = re.compile(
    r"no space left on the disk of \S+ \(\d+\.\d MB free\)|[GM]B free on this disk|GB are free "
    r"there"
)


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """Yield a folder that is a disk of its own, in memory.

    Skip the test where none can be mounted.
    """
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("a small disk cannot be mounted here (no program mount)")
    if done.returncode:
        pytest.skip(f"a small disk cannot be mounted here ({done.stderr.strip()})")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def filled(disk: Path, room: int) -> Iterator[None]:
    """Leave `room` bytes free on a disk."""
    filler = disk / ".filler"
    length = shutil.disk_usage(disk).free - room
    with open(filler, "wb") as opened:
        os.posix_fallocate(opened.fileno(), 0, max(1, length))
    try:
        yield
    finally:
        filler.unlink()


def finals(disk: Path, working: Sequence[str] = ()) -> dict[str, int]:
    """Return the files at final names and when they were written.

    Not those in `working` folders.
    """
    times = {}
    for path in sorted(disk.rglob("*")):
        name = path.relative_to(disk)
        if (
            path.is_file()
            and not any(part.startswith(".") for part in name.parts)
            and not str(name).startswith(tuple(working) or "\0")
        ):
            times[str(name)] = path.stat().st_mtime_ns
    return times


def check(
    disk: Path,
    script: Callable[[], Done],
    rooms: Sequence[int] = ROOMS,
    working: Sequence[str] = (),
) -> Done:
    """Run a script with less room than it needs, and then with all of it; return how it ended.

    Args:
        rooms: free bytes, the fewest first; those that are enough for the script end the tries.
        working: folders whose files are no results: a later run uses or removes them.
    """
    before = finals(disk, working)
    failures = 0
    for room in rooms:
        with filled(disk, room):
            done = script()
        if done.status == 0:
            break
        assert done.status in (2, 74), (room, done.stderr)
        lines = [line for line in re.split(r"[\r\n]+", done.stderr) if "error: " in line]
        assert "Traceback" not in done.stderr and len(lines) == 1 and SAID.search(lines[0]), (
            room,
            done.stderr,
        )
        assert finals(disk, working) == before, room
        failures += 1
    assert failures, "the disk was never too full"
    if done.status != 0:
        done = script()
    assert done.status == 0, done.stderr
    assert set(finals(disk, working)) > set(before)
    return done
