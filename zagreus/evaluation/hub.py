"""Files of a dataset repository on the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.json
import pyarrow.parquet

from zagreus import hub  # before the hub's client: it lets the client go to the network
from zagreus.errors import InputError
from zagreus.evaluation.items import Item
from zagreus.manifest import describe

import huggingface_hub  # isort: skip


def read_hub(
    repo: str, revision: str, files: Mapping[str, str], sha256: Mapping[str, str], folder: Path
) -> tuple[dict[str, list[Item]], dict[str, Any]]:
    """Return (items by split, what they were read from): each split is one parquet or JSON-lines file, all of one commit.

    Args:
        repo: `owner/name`.
        revision: commit, tag or branch; a commit pins the data.
        files: path in the repository of each split.
        sha256: of the file of each split; of splits that are not named it is only recorded.
        folder: where the files are put.

    Returns:
        The second is `commit`, and of each split's file `{path, bytes, sha256}` (`files`).

    Raises:
        InputError: a file cannot be had, or is another one; for a gated repository HF_TOKEN in the environment is needed.
    """
    splits: dict[str, list[Item]] = {}
    facts: dict[str, Any] = {}
    commit = None
    for split, name in files.items():
        commit = commit or _commit(repo, revision, name)
        path = hub.download(repo, commit, name, folder, "dataset")
        facts[split] = {**describe(path), "path": name}
        if (found := facts[split]["sha256"]) != sha256.get(split, found):
            raise InputError(f"{repo}@{commit}: '{name}' has sha256 {found}, expected {sha256[split]}")
        table = pyarrow.parquet.read_table(path) if name.endswith(".parquet") else pyarrow.json.read_json(path)
        splits[split] = [{**row, "id": str(row.get("id", number))} for number, row in enumerate(table.to_pylist())]
    return splits, {"commit": commit, "files": facts}


def _commit(repo: str, revision: str, name: str) -> str:
    """Return the commit that a revision names now, by the answer to a request for one of its files."""

    def ask() -> str:
        with hub.one_line(repo, revision, name):
            url = huggingface_hub.hf_hub_url(repo, name, repo_type="dataset", revision=revision)
            return huggingface_hub.get_hf_file_metadata(url).commit_hash or revision

    return hub.patient(ask)
