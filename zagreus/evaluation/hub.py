"""Files of a dataset repository on the Hugging Face hub."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zagreus.data.hub import download_file, file_metadata
from zagreus.errors import InputError
from zagreus.evaluation.files import Lost, agreeing, check_lost, read_rows
from zagreus.evaluation.items import Item
from zagreus.manifest import describe


def read_hub(
    repo: str,
    revision: str,
    files: Mapping[str, str],
    sha256: Mapping[str, str],
    folder: Path,
    max_lost_rows: float,
) -> tuple[dict[str, list[Item]], dict[str, Any]]:
    """Return (items by split, what they were read from): each split is one file, all of one commit.

    Args:
        repo: `owner/name`.
        revision: commit, tag or branch; a commit pins the data.
        files: path in the repository of each split: parquet, JSON lines or a JSON array.
        sha256: of the file of each split; of splits that are not named it is only recorded.
        folder: where the files are put.
        max_lost_rows: share of a split's rows that may be unusable.

    Returns:
        The second is `commit`, of each split's file `{path, bytes, sha256}` (`files`), and the rows
        that were left out, by split and reason (`rows_lost`).

    Raises:
        InputError: a file cannot be had, is another one, cannot be read, or loses too many rows;
            for a gated repository HF_TOKEN in the environment is needed.
    """
    read: dict[str, list[Item]] = {}
    facts: dict[str, Any] = {}
    lost: dict[str, Lost] = {split: Counter() for split in files}
    commit = None
    for split, name in files.items():
        commit = commit or file_metadata(repo, revision, name).commit_hash
        path = download_file(repo, commit or revision, name, folder)
        facts[split] = {**describe(path), "path": name}
        if (digest := facts[split]["sha256"]) != sha256.get(split, digest):
            raise InputError(
                f"{repo}@{commit}: '{name}' has sha256 {digest}, expected {sha256[split]}"
            )
        read[split] = read_rows(path, f"{repo}@{commit}: {name}", lost[split])
    splits = agreeing(read, lost)
    for split, counts in lost.items():
        check_lost(repo, split, counts, len(splits[split]) + sum(counts.values()), max_lost_rows)
    return splits, {
        "commit": commit,
        "files": facts,
        "rows_lost": {split: dict(counts) for split, counts in lost.items()},
    }
