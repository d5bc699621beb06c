"""What a score is of.

Weights and data by their hashes, checked against the manifests that stand for them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lm_eval
import torch
import transformers

from zagreus.errors import InputError
from zagreus.manifest import joint_sha256, read_manifest, sha256_file
from zagreus.processor import is_portable

CODE = Path(__file__).parent
# What of a model folder decides over its scores.
PARTS = ("*.safetensors", "*.json", "*.jinja", "*.model", "merges.txt")


def model_hashes(manifest: Path) -> dict[str, str]:
    """Return {file.

    Sha256} of the files that make a model folder's scores, its weights checked against the folder's
    manifest.

    Raises:
        InputError: the weights are other ones than the manifest says: it, and every score with its
            name, would be of another model.
    """
    folder = manifest.parent
    files = sorted(
        {
            path
            for pattern in PARTS
            for path in folder.glob(pattern)
            if not path.name.startswith("manifest.")
        }
    )
    hashes = {path.name: sha256_file(path) for path in files}
    stated = _stated(manifest)
    for name, digest in hashes.items():
        if name.endswith(".safetensors") and stated.get(name, digest) != digest:
            raise InputError(
                f"{folder / name}: sha256 {digest[:12]}..., expected {stated[name][:12]}... as "
                f"{manifest} says: another model"
            )
    return hashes


def weights_hash(hashes: Mapping[str, str]) -> str | None:
    """Return one sha256 for a model's weights.

    The file's own, or over the hashes of the shards in order.
    """
    return joint_sha256(
        {name: digest for name, digest in hashes.items() if name.endswith(".safetensors")}
    )


def template_hash(tokenizer: Any) -> str | None:
    """Return the sha256 of a tokenizer's chat template, None where it has none."""
    return (
        hashlib.sha256(tokenizer.chat_template.encode("utf-8")).hexdigest()
        if tokenizer.chat_template
        else None
    )


def data_hashes(names: Sequence[str], folder: Path) -> dict[str, str]:
    """Return {data set: sha256 of its items}, checked against the data sets' manifests.

    Raise `InputError` where they differ.
    """
    hashes = {}
    for name in sorted(set(names)):
        path = folder / f"{name}.parquet"
        stated = _stated(folder / f"{name}.json").get(path.name)
        if not path.exists():
            raise InputError(f"{path}: no such file")
        hashes[name] = sha256_file(path)
        if stated is None or stated != hashes[name]:
            raise InputError(
                f"{path}: sha256 {hashes[name][:12]}..., expected {str(stated)[:12]}... as "
                f"{folder / f'{name}.json'} says; make it again"
            )
    return hashes


def task_key(task: Mapping[str, Any], data: str, model: Mapping[str, str]) -> str:
    """Return a sha256 over all that a task's scores are made from.

    Model, items, task file, number of few-shot examples, and the code that scores.
    """
    parts = {
        "model": dict(model),
        "data": data,
        "task": {key: value for key, value in task.items() if key != "recipe"},
        "recipe": Path(task["recipe"]).read_text(encoding="utf-8"),
        "versions": [lm_eval.__version__, torch.__version__, transformers.__version__]
        + (["portable"] if is_portable() else []),
        "code": [
            sha256_file(path) for path in (*sorted(CODE.glob("*.py")), CODE.parent / "pairs.py")
        ],
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _stated(manifest: Path) -> dict[str, str]:
    """Return {file name: sha256} of a manifest's outputs."""
    return {Path(item["path"]).name: item["sha256"] for item in read_manifest(manifest)["outputs"]}
