"""A file whose sha256 is made while it is written."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from types import TracebackType
from typing import Any


class HashedFile:
    """A file to write to, as a context; it is synced when the block ends."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._bytes = 0
        self._hash = hashlib.sha256()
        self._file = open(path, "wb", buffering=2**20)  # noqa: SIM115 - __exit__ closes it

    def __enter__(self) -> HashedFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def write(self, data: bytes | memoryview) -> None:
        """Append bytes; a memoryview is one of single bytes."""
        self._file.write(data)
        self._hash.update(data)
        self._bytes += len(data)

    def describe(self) -> dict[str, Any]:
        """Return `{path, bytes, sha256}` of what was written so far, as
        `zagreus.manifest.describe`.
        """
        return {"path": str(self.path), "bytes": self._bytes, "sha256": self._hash.hexdigest()}
