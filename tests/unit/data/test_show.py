"""`bin/zagreus show` prints what lies in a parquet file and in a shard of tokens."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from zagreus.manifest import write_manifest

SCRIPT = Path(__file__).parents[3] / "scripts" / "show.py"


def _show(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", str(SCRIPT), *map(str, arguments)], capture_output=True, text=True
    )


@pytest.fixture
def parquet(tmp_path: Path) -> Path:
    path = tmp_path / "00000.parquet"
    pq.write_table(pa.table({"id": ["s:1", "s:2"], "text": ["Nel principio", "x" * 500]}), path)
    return path


def test_rows_of_a_parquet_file(parquet: Path) -> None:
    done = _show(parquet, "--rows", 1)
    assert done.returncode == 0, done.stderr
    assert "2 rows" in done.stdout and '"Nel principio"' in done.stdout
    assert "s:2" not in done.stdout


def test_rows_with_a_value(parquet: Path) -> None:
    done = _show(parquet, "--where", "id=s:2")
    assert '"s:2"' in done.stdout and '"s:1"' not in done.stdout
    assert max(map(len, done.stdout.splitlines()[1:])) < 120, "long text is cut"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--where", "id=s:9"], "no row with id=s:9"),
        (["--where", "name=x"], "no column 'name', expected one of id, text"),
        (["--rows", "x"], "invalid int value"),
    ],
)
def test_what_cannot_be_shown(parquet: Path, arguments: list[str], expected: str) -> None:
    done = _show(parquet, *arguments)
    assert done.returncode == 2 and expected in done.stderr


@pytest.mark.parametrize("name", ["nothing.parquet", "notes.txt"])
def test_other_files_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "notes.txt").write_text("text")
    done = _show(tmp_path / name)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("stem", ["00000_unshuffled", "00000.heldout_unshuffled"])
def test_documents_of_a_shard(tmp_path: Path, stem: str) -> None:
    tokenizer = Tokenizer(WordLevel({"<s>": 0, "Nel": 1, "principio": 2, "?": 3}, unk_token="?"))
    tokenizer.pre_tokenizer = Whitespace()
    folder = tmp_path / "tokenizer"
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    write_manifest(folder / "manifest.json", kind="tokenizer", name="t")
    shard = tmp_path / f"{stem}.ds"
    np.array([0, 1, 2, 0, 2], dtype="<u2").tofile(shard)
    np.array([3, 5], dtype="<u8").tofile(f"{shard}.index")
    write_manifest(
        tmp_path / "00000.json",
        kind="tokens",
        name="s/00000",
        inputs=[folder / "manifest.json"],
        outputs=[shard],
        token_bytes=2,
    )
    done = _show(shard, "--rows", 1)
    assert done.returncode == 0, done.stderr
    assert "2 documents, 5 tokens" in done.stdout
    assert "[0, 1, 2]" in done.stdout and "<s> Nel principio" in done.stdout
