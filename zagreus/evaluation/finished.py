"""The finished tasks of an evaluation that goes on.

One file a task, so that an interrupted job does not score it again.

A file serves only what it was made from: its name is the key of model, data, task and code
(zagreus/evaluation/identity.py). The folder is gone once the scores are written.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from zagreus.atomic import atomic_file


class Finished:
    """A folder with a file for each finished task."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, key: str) -> dict[str, Any] | None:
        """Return what a task gave, None where it is not finished."""
        path = self.folder / f"{key}.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

    def write(self, key: str, result: dict[str, Any]) -> None:
        """Keep what a task gave."""
        with atomic_file(self.folder / f"{key}.json", settled=True) as partial:
            partial.write_text(json.dumps(result), encoding="utf-8")

    def remove(self) -> None:
        """Remove the folder, and what other models or other data left in it."""
        shutil.rmtree(self.folder, ignore_errors=True)
