"""Files of a dataset repository on the Hugging Face hub."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import huggingface_hub
import huggingface_hub.errors
import pyarrow
import pyarrow.json
import pyarrow.parquet

from zagreus.errors import InputError
from zagreus.evaluation.items import Item
from zagreus.manifest import describe


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
    token = os.environ.get("HF_TOKEN")
    splits: dict[str, list[Item]] = {}
    facts: dict[str, Any] = {}
    commit = None
    for split, name in files.items():
        try:
            if commit is None:
                url = huggingface_hub.hf_hub_url(repo, name, repo_type="dataset", revision=revision)
                commit = huggingface_hub.get_hf_file_metadata(url, token=token).commit_hash
            path = Path(huggingface_hub.hf_hub_download(repo, name, repo_type="dataset", revision=commit, local_dir=folder, token=token))
        except (huggingface_hub.errors.HfHubHTTPError, huggingface_hub.errors.LocalEntryNotFoundError, OSError) as error:
            raise InputError(f"{repo}@{revision}: cannot get '{name}' ({str(error).splitlines()[0]})") from None
        facts[split] = {**describe(path), "path": name}
        if (found := facts[split]["sha256"]) != sha256.get(split, found):
            raise InputError(f"{repo}@{commit}: '{name}' has sha256 {found}, expected {sha256[split]}")
        table = pyarrow.parquet.read_table(path) if name.endswith(".parquet") else pyarrow.json.read_json(path)
        splits[split] = [{**row, "id": str(row.get("id", number))} for number, row in enumerate(table.to_pylist())]
    return splits, {"commit": commit, "files": facts}
