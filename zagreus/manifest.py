"""Manifests.

What an artifact is (identity) and, in a file of its own, how it came about (circumstances).

The manifest `NAME.json` holds only what two identical runs share, so that it is itself reproducible
and a good node of the DAG. `NAME.run.json` beside it holds host, time, seconds, peak memory and git
commit; nothing depends on it.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from zagreus.atomic import atomic_file, settle
from zagreus.errors import InputError
from zagreus.processor import is_portable, processor

_STARTED = time.time()


def sha256_file(path: Path | str) -> str:
    """Return the hexadecimal sha256 of a file's bytes."""
    with open(path, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def joint_sha256(hashes: Mapping[str, str]) -> str | None:
    """Return one sha256 for files by name.

    That of the only one, or over the hashes of several in the order of their names; None for none.
    """
    ordered = [digest for _, digest in sorted(hashes.items())]
    return (
        ordered[0]
        if len(ordered) == 1
        else hashlib.sha256("".join(ordered).encode()).hexdigest()
        if ordered
        else None
    )


def describe(path: Path | str) -> dict[str, Any]:
    """Return `{path, bytes, sha256}` of a file."""
    return {"path": str(path), "bytes": Path(path).stat().st_size, "sha256": sha256_file(path)}


def software() -> str:
    """Return the name, with digest, of the image (or of the virtual environment made from the same
    lock) that this process runs in.
    """
    image = os.environ.get("APPTAINER_CONTAINER") or os.environ.get("SINGULARITY_CONTAINER")
    return Path(image).name.removesuffix(".sif") if image else Path(sys.prefix).name


def write_manifest(
    path: Path | str,
    *,
    kind: str,
    name: str,
    inputs: Iterable[Path | str] = (),
    outputs: Iterable[Path | str | dict[str, Any]] = (),
    packages: Iterable[str] = (),
    circumstances: Mapping[str, Any] | None = None,
    **facts: Any,
) -> dict[str, Any]:
    """Write the manifest of an artifact, and its circumstances beside it.

    Args:
        path: where the manifest goes; it ends in `.json`.
        kind: stage that made it (`source`, `tokenizer`, `tokens`, `checkpoint`, `model`, `scores`,
            ...).
        name: the artifact's name within its kind, for example `ita/300`.
        inputs: files it was made from; the manifest of an artifact stands for the artifact.
        outputs: files it consists of; one whose sha256 is known already as `describe` returns it.
        packages: distributions whose versions matter to the result.
        circumstances: extra facts of this run alone (tokens per second, ...); they go to
            `.run.json`.
        facts: what else identifies it (recipe, seed, counts, ...). Values must be JSON.

    Returns:
        The manifest as written.
    """
    path = Path(path)
    manifest = {
        "kind": kind,
        "name": name,
        **facts,
        **({"arithmetic": "portable"} if is_portable() else {}),
        "inputs": [describe(item) for item in inputs],
        "outputs": [item if isinstance(item, dict) else describe(item) for item in outputs],
        "software": software(),
        "versions": {package: importlib.metadata.version(package) for package in packages},
    }
    run = {
        "manifest": path.name,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(time.time() - _STARTED, 3),
        "peak_memory_mb": round(
            max(
                resource.getrusage(who).ru_maxrss
                for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
            )
            / 1024,
            1,
        ),
        "host": platform.node(),
        "platform": platform.platform(),
        "cpu": processor(),
        "git_commit": _git_commit(),
        **(circumstances or {}),
    }
    _write_json(path.with_suffix(".run.json"), run)
    _write_json(path, manifest)
    settle()
    return manifest


def read_manifest(path: Path | str, kind: str | None = None) -> dict[str, Any]:
    """Read a manifest.

    Raise `InputError` when it is missing, is not a manifest, or is of another kind than `kind`.
    """
    try:
        manifest = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such manifest") from None
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: not a manifest, invalid JSON ({error})") from None
    if not isinstance(manifest, dict) or "kind" not in manifest:
        raise InputError(f"{path}: not a manifest, it has no key 'kind'")
    if kind is not None and manifest["kind"] != kind:
        raise InputError(f"{path}: a manifest of kind '{manifest['kind']}', expected '{kind}'")
    return manifest


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    with atomic_file(path) as partial:
        partial.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _git_commit() -> str | None:
    """Return the commit of the code.

    What the launcher put into the environment (images have no git), or what git says.
    """
    commit = os.environ.get("ZAGREUS_COMMIT")
    if commit:
        return commit
    root = Path(__file__).resolve().parent.parent
    try:
        result = subprocess.run(
            ["git", "-C", str(root), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return result.stdout.strip()
