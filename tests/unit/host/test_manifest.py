"""Manifests.

The same in two identical runs, true to the bytes, and refused in one line when they are not
manifests.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from zagreus.errors import InputError
from zagreus.manifest import read_manifest, write_manifest


def _write(folder: Path) -> Path:
    (folder / "data").write_bytes(b"text")
    write_manifest(
        folder / "a.json",
        kind="tokens",
        name="eng/00000",
        outputs=[folder / "data"],
        packages=["pytest"],
        tokens=4,
    )
    return folder / "a.json"


def test_it_says_what_sha256sum_says(tmp_path: Path) -> None:
    manifest = read_manifest(_write(tmp_path), "tokens")
    assert manifest["outputs"] == [
        {"path": str(tmp_path / "data"), "bytes": 4, "sha256": hashlib.sha256(b"text").hexdigest()}
    ]
    assert manifest["versions"] == {"pytest": pytest.__version__} and manifest["tokens"] == 4


def test_circumstances_are_apart(tmp_path: Path) -> None:
    first = _write(tmp_path).read_bytes()
    run = json.loads((tmp_path / "a.run.json").read_text())
    assert {"finished", "seconds", "host", "peak_memory_mb"} <= run.keys()
    assert _write(tmp_path).read_bytes() == first


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, "no such manifest"),
        ("{", "invalid JSON"),
        ("[]", "no key 'kind'"),
        ('{"kind": "model"}', "of kind 'model', expected 'tokens'"),
    ],
)
def test_what_is_no_manifest_is_refused(tmp_path: Path, text: str | None, expected: str) -> None:
    if text is not None:
        (tmp_path / "a.json").write_text(text)
    with pytest.raises(InputError, match=expected):
        read_manifest(tmp_path / "a.json", "tokens")
