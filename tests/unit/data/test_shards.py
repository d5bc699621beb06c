"""Token shards: against datatrove's own executor, and read back."""

import json
import subprocess
import sys
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.readers import ParquetReader
from datatrove.pipeline.tokens import DocumentTokenizer
from tokenizers import Tokenizer
from wheels import wheel

from zagreus.data import tokenizer as maker
from zagreus.data.readers import read_wheel
from zagreus.data.shards import SUFFIXES, check_shard, write_shard
from zagreus.data.split import Document, write_split
from zagreus.errors import InputError

EXTRA = ["<|end_of_text|> inside <|begin_of_text|>", "\r\n\ttabs\x00", "è" * 3000, " "]


@pytest.fixture(scope="module")
def texts() -> list[str]:
    italian = read_wheel(wheel("homeassistant"), "homeassistant_strings", {"language": "it"})
    code = read_wheel(wheel("homeassistant"), "python_code", {})
    return [text for _, text in islice(italian, 300)] + [text for _, text in islice(code, 200) if text] + EXTRA


@pytest.fixture(scope="module")
def parquet(texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source")
    documents = [Document(str(number), f"s:{number}", text) for number, text in enumerate(texts)]
    write_split(documents, folder / "00003.parquet", folder / "00003.heldout.parquet", 0)
    return folder / "00003.parquet"


@pytest.fixture(scope="module")
def tokenizer(texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    maker.save(maker.train(texts, 1500), folder)
    return folder / "tokenizer.json"


def test_equals_datatrove_s_executor(parquet: Path, tokenizer: Path, texts: list[str], tmp_path: Path) -> None:
    shard = write_shard(parquet, tokenizer, tmp_path / "ours", len(texts))
    reader = ParquetReader(str(parquet.parent), glob_pattern="00003.parquet")
    writer = DocumentTokenizer(str(tmp_path / "theirs"), str(tokenizer), shuffle_documents=False)
    LocalPipelineExecutor([reader, writer], tasks=1, logging_dir=str(tmp_path / "logs")).run()
    assert [file.name for file in shard.files] == [f"00003_unshuffled{suffix}" for suffix in SUFFIXES]
    for file in shard.files:
        assert file.read_bytes() == (tmp_path / "theirs" / file.name.replace("00003", "00000")).read_bytes()
    assert sorted(file.name for file in (tmp_path / "ours").iterdir()) == sorted(file.name for file in shard.files)


def test_read_back_is_the_text(parquet: Path, tokenizer: Path, texts: list[str], tmp_path: Path) -> None:
    shard = write_shard(parquet, tokenizer, tmp_path, len(texts))
    coder = Tokenizer.from_file(str(tokenizer))
    ids = np.fromfile(shard.files[0], dtype="<u2")
    ends = np.fromfile(shard.files[1], dtype="<u8")
    assert (shard.documents, shard.tokens, shard.token_bytes) == (len(texts), len(ids), 2)
    for text, start, end in zip(texts, [0, *ends[:-1]], ends, strict=True):
        assert ids[start] == coder.token_to_id(maker.BEGIN)
        assert coder.decode(ids[start + 1 : end].tolist(), skip_special_tokens=False) == text
    # No end token follows any document; the one that is there stands in a text.
    assert (ids == coder.token_to_id(maker.END)).sum() == 1


def test_large_vocabulary_takes_four_bytes(parquet: Path, texts: list[str], tmp_path: Path) -> None:
    maker.save(maker.from_package(wheel("llama-models"), "llama_models/llama3/tokenizer.model"), tmp_path / "llama")
    shard = write_shard(parquet, tmp_path / "llama" / "tokenizer.json", tmp_path / "tokens", len(texts))
    ids = np.fromfile(shard.files[0], dtype="<u4")
    assert shard.token_bytes == 4 and ids[0] == 128000 and ids.max() < 128256
    assert shard.files[2].read_text().split("\n")[0] == f"{tmp_path}/llama/tokenizer.json|4"


def test_what_a_killed_job_left_is_no_shard(parquet: Path, tokenizer: Path, texts: list[str], tmp_path: Path) -> None:
    stale = tmp_path / ".00003.partial"
    stale.mkdir()
    (stale / "00003_unshuffled.ds").write_bytes(b"half")
    write_shard(parquet, tokenizer, tmp_path, len(texts))
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(f"00003_unshuffled{suffix}" for suffix in SUFFIXES)


def test_bad_parquet(parquet: Path, tokenizer: Path, texts: list[str], tmp_path: Path) -> None:
    truncated, empty, other = (tmp_path / f"0000{number}.parquet" for number in (0, 1, 2))
    truncated.write_bytes(parquet.read_bytes()[:-100])
    write_split([], empty, tmp_path / "h.parquet", 0)
    pq.write_table(pq.read_table(parquet).rename_columns(["id", "content"]), other)
    cases = [
        (truncated, 9, "not a whole parquet"),
        (empty, 0, "no document"),
        (other, len(texts), "columns id, content"),
        (parquet, 9, "says 9"),
    ]
    for path, documents, message in cases:
        with pytest.raises(InputError, match=message):
            write_shard(path, tokenizer, tmp_path / "out", documents)
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_bad_shards(parquet: Path, tokenizer: Path, texts: list[str], tmp_path: Path) -> None:
    data, index, metadata = write_shard(parquet, tokenizer, tmp_path, len(texts)).files
    whole = {file: file.read_bytes() for file in (data, index, metadata)}
    highest = int(np.frombuffer(whole[data], "<u2").max())
    assert check_shard(data, highest + 1).documents == len(texts)
    with pytest.raises(InputError, match=f"token {highest}, the vocabulary has {highest}"):
        check_shard(data, highest)
    damages = [
        (data, whole[data][:-2], "bytes, .* tokens of 2 bytes"),
        (index, whole[index][:-8], "do not rise"),
        (index, whole[index][:8] + whole[index][:8] + whole[index][16:], "do not rise"),
        (index, b"", "no tokens"),
    ]
    for file, content, message in damages:
        file.write_bytes(content)
        with pytest.raises(InputError, match=message):
            check_shard(data, 1500)
        file.write_bytes(whole[file])
    metadata.unlink()
    with pytest.raises(InputError, match="missing"):
        check_shard(data, 1500)


def test_the_script_refuses_another_artifact(parquet: Path, tokenizer: Path, tmp_path: Path) -> None:
    (tmp_path / "source.json").write_text(json.dumps({"kind": "chat"}))
    (tmp_path / "manifest.json").write_text(json.dumps({"kind": "tokenizer", "vocab_size": 1500}))
    command = [sys.executable, "-P", "scripts/tokenize.py", "--source", str(tmp_path / "source.json")]
    command += ["--tokenizer", str(tmp_path / "manifest.json"), str(tmp_path / "out.json")]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 2
    assert result.stderr.strip() == f"error: {tmp_path}/source.json: a manifest of kind 'chat', expected 'source'"
