"""Which files of a folder are parquet files to read. Standard library only: the rules ask too."""

from __future__ import annotations

import os
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

from zagreus.errors import InputError

SUFFIX = ".parquet"
UNFINISHED = "_temporary"  # the folder of Spark's tasks that are not committed
SHOWN = 5  # skipped names in a message


@dataclass
class ParquetFiles:
    """The files of a folder.

    Attributes:
        files: the files to read, in order of their paths.
        skipped: the others with the reason: `PATH (hidden)`; paths are beneath the folder.
    """

    files: list[Path] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    def describe_skipped(self) -> str:
        """Return how many names were skipped, and the first ones."""
        rest = len(self.skipped) - SHOWN
        more = f" and {rest:,} more" if rest > 0 else ""
        return f"{len(self.skipped):,} skipped: {', '.join(self.skipped[:SHOWN])}{more}"


def find_parquet(folder: Path) -> ParquetFiles:
    """Find the parquet files beneath a folder, nested folders and links included.

    Hidden names (a leading dot: copies of notebooks, `._x.parquet` of a Mac) are skipped. So is
    what Spark left unfinished. A link to what is read already is skipped: no file is read twice. A
    link to a missing file is listed: reading it is an error.

    Raises:
        InputError: no such folder, a file in its place, a folder that cannot be read.
    """
    if not folder.exists():
        raise InputError(f"no such folder '{folder}'")
    if not folder.is_dir():
        raise InputError(f"'{folder}' is a file, expected a folder of parquet files")
    return _Walk(folder).walk()


class _Walk:
    """Real folders first, then what links lead to."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._files = ParquetFiles()
        self._folders: set[str] = set()  # real paths that were entered
        self._links: deque[Path] = deque()
        self._linked_files: list[Path] = []

    def walk(self) -> ParquetFiles:
        """Walk, and return what was found."""
        self._enter(self._root)
        while self._links:
            link = self._links.popleft()
            target, parent = os.path.realpath(link), os.path.realpath(link.parent)
            if parent == target or parent.startswith(target.rstrip("/") + "/"):
                self._skip(link, "a link to a folder above it")
            elif target in self._folders:
                self._skip(link, "a link to a folder that is read already")
            else:
                self._enter(link)
        real = {os.path.realpath(path) for path in self._files.files}
        for path in sorted(self._linked_files):
            target = os.path.realpath(path)
            if target in real:
                self._skip(path, "a link to a file that is read already")
            else:
                real.add(target)
                self._files.files.append(path)
        self._files.files.sort()
        self._files.skipped.sort()
        return self._files

    def _enter(self, start: Path) -> None:
        """List a folder and the real folders in it."""
        waiting = [start]
        while waiting:
            folder = waiting.pop()
            target = os.path.realpath(folder)
            if target in self._folders:
                self._skip(folder, "read already behind a link")
                continue
            self._folders.add(target)
            try:
                entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
            except OSError as error:
                raise InputError(f"folder '{folder}' cannot be read ({error.strerror})") from None
            for entry in entries:
                path = folder / entry.name
                is_folder = path.is_dir()
                if not is_folder and not entry.name.lower().endswith(SUFFIX):
                    continue
                if entry.name.startswith("."):
                    self._skip(path, "hidden")
                elif is_folder and entry.name == UNFINISHED:
                    self._skip(path, "unfinished")
                elif is_folder:
                    (self._links if entry.is_symlink() else waiting).append(path)
                elif path.exists() and not path.is_file():
                    self._skip(path, "no regular file")
                else:
                    (self._linked_files if entry.is_symlink() else self._files.files).append(path)

    def _skip(self, path: Path, reason: str) -> None:
        self._files.skipped.append(f"{path.relative_to(self._root)} ({reason})")
