"""Wheels of the package registry that jobs read: config/packages.lock.csv."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from zagreus.data.packages import Package, read_lock
from zagreus.errors import InputError
from zagreus.workflow.interface import Config, Wildcards

LOCK = "config/packages.lock.csv"


@dataclass(frozen=True)
class Packages:
    """The lock table of packages."""

    table: Mapping[str, Package]
    """Rows of the lock table by the name of the package."""

    @classmethod
    def read(cls, config: Config, lock: str = LOCK) -> Packages:
        """Read the lock table; an empty one where there is no such file.

        Raises:
            InputError: a bad table, or the configuration names a package that is not in the table.
        """
        packages = cls(read_lock(lock) if Path(lock).is_file() else {})
        for key, name in _named(config):
            if name not in packages.table:
                known = ", ".join(sorted(packages.table))
                raise InputError(f"{key}: package '{name}' is not in {lock}, which has: {known}")
        return packages

    def wheel(self, name: str) -> str:
        """Return the wheel of a package.

        Raises:
            InputError: the package is not in the lock table.
        """
        if name not in self.table:
            known = ", ".join(sorted(self.table))
            raise InputError(f"package '{name}' is not in {LOCK}, which has: {known}")
        return f"<resources>/packages/{self.table[name].file}"

    def name(self, wildcards: Wildcards) -> str:
        """Return the name of the package whose wheel is `{file}.whl`."""
        return self._row(wildcards).package

    def sha256(self, wildcards: Wildcards) -> str:
        """Return the hash of the wheel `{file}.whl`: another hash brings that wheel again."""
        return self._row(wildcards).sha256

    def _row(self, wildcards: Wildcards) -> Package:
        for row in self.table.values():
            if row.file == f"{wildcards.file}.whl":
                return row
        raise InputError(f"'{wildcards.file}.whl' is not in {LOCK}")


def _named(config: Config) -> Iterator[tuple[str, str]]:
    """Yield each key of the configuration that names a package, with the name."""
    if "package" in config["tokenizer"]:
        yield "tokenizer.package", config["tokenizer"]["package"]
    for section in ("sources", "chat", "baselines", "evaluation_data"):
        for name, entry in config[section].items():
            if "package" in entry:
                yield f"{section}.{name}.package", entry["package"]
