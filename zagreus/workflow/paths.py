"""Folders of a run: `pathvars` of the configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Paths:
    """The folders of a run."""

    folders: Mapping[str, str]
    """Folder of each path variable: results, logs, benchmarks, resources."""

    def path(self, pattern: str) -> str:
        """Return a path with its <pathvars> filled in.

        Snakemake fills them in itself, but for params and `container:`.
        """
        for name, folder in self.folders.items():
            pattern = pattern.replace(f"<{name}>", folder)
        return pattern

    @property
    def results(self) -> Path:
        """The folder of the run's results."""
        return Path(self.folders["results"])

    @property
    def benchmarks(self) -> Path:
        """The folder of Snakemake's benchmark files."""
        return Path(self.folders["benchmarks"])

    @property
    def name(self) -> str:
        """The name of the run: that of its folder of results."""
        return self.results.name
