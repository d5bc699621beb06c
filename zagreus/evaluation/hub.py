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


def read_hub(repo: str, revision: str, files: Mapping[str, str], folder: Path) -> tuple[dict[str, list[Item]], dict[str, Any]]:
    """Return (items by split, `{path, bytes, sha256}` of each split's file): each split is one parquet or JSON-lines file.

    Args:
        repo: `owner/name`.
        revision: commit, tag or branch; a commit pins the data.
        files: path in the repository of each split.
        folder: where the files are put.

    Raises:
        InputError: a file cannot be had; for a gated repository HF_TOKEN in the environment is needed.
    """
    splits: dict[str, list[Item]] = {}
    facts = {}
    for split, name in files.items():
        try:
            path = Path(
                huggingface_hub.hf_hub_download(
                    repo, name, repo_type="dataset", revision=revision, local_dir=folder, token=os.environ.get("HF_TOKEN")
                )
            )
        except (huggingface_hub.errors.HfHubHTTPError, huggingface_hub.errors.LocalEntryNotFoundError, OSError) as error:
            raise InputError(f"{repo}@{revision}: cannot get '{name}' ({str(error).splitlines()[0]})") from None
        table = pyarrow.parquet.read_table(path) if name.endswith(".parquet") else pyarrow.json.read_json(path)
        splits[split] = [{**row, "id": str(row.get("id", number))} for number, row in enumerate(table.to_pylist())]
        facts[split] = {**describe(path), "path": name}
    return splits, facts
