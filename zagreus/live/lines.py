"""Files that grow, read from where the last look ended."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

TAIL = 16384  # bytes of a log that are looked at
CONTROL = re.compile(r"\033\[[0-9;?]*[A-Za-z]|[\000-\010\013-\037]")
LONGEST = 64_000_000  # bytes of a file that are read at one look


class GrowingFile:
    """The whole lines of a file, each read once; a file that was made anew is read anew."""

    def __init__(self, path: Path) -> None:
        """Remember a path, which need not be there yet."""
        self.path = path
        self._offset = 0
        self._identity: tuple[int, int] | None = None

    def read(self) -> tuple[bool, list[bytes]]:
        """Return whether the file begins anew, and the whole lines since the last look."""
        try:
            # A pipe or a device would keep the page waiting.
            if not self.path.is_file():
                return self._offset > 0, self._forget()
            with open(self.path, "rb") as stream:
                status = os.fstat(stream.fileno())
                identity = (status.st_dev, status.st_ino)
                anew = self._offset > 0 and (
                    identity != self._identity or status.st_size < self._offset
                )
                if anew:
                    self._offset = 0
                self._identity = identity
                stream.seek(self._offset)
                text = stream.read(min(LONGEST, max(0, status.st_size - self._offset)))
        except OSError:
            return self._offset > 0, self._forget()
        end = text.rfind(b"\n") + 1
        self._offset += end
        return anew, text[:end].splitlines()

    def _forget(self) -> list[bytes]:
        self._offset, self._identity = 0, None
        return []


def json_lines(lines: list[bytes]) -> list[dict[str, Any]]:
    """Return the lines that are JSON objects; half a line of a run that was killed is left out."""
    records = []
    for line in lines:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict):
            records.append(record)
    return records


def last_lines(log: str | Path, count: int, since: float = 0.0) -> list[str]:
    """Return the last lines of a log that was written to after `since`, without control characters.

    Of a progress bar, which goes back to the start of its line, it is the last state.
    """
    try:
        with open(log, "rb") as stream:
            status = os.fstat(stream.fileno())
            if status.st_mtime < since:
                return []  # of an earlier run
            stream.seek(max(0, status.st_size - TAIL))
            text = stream.read().decode(errors="replace")
    except OSError:
        return []  # not there yet, or never made
    lines = [
        CONTROL.sub("", line.rstrip("\r").rsplit("\r", 1)[-1]).rstrip() for line in text.split("\n")
    ]
    return [line for line in lines if line][-count:]
