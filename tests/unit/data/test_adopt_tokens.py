"""Token shards that were made elsewhere, in a source's place: the same bytes, recorded.

And what is not this tokenizer's.
"""

import json
import subprocess
import sys
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from wheels import wheel

from zagreus.data import tokenizer as maker
from zagreus.data.readers import read_wheel
from zagreus.data.shard_files import SUFFIXES
from zagreus.data.shards import write_shard
from zagreus.data.split import Document, write_split
from zagreus.manifest import read_manifest, sha256_file, write_manifest


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return [
        text
        for _, text in islice(
            read_wheel(wheel("homeassistant"), "homeassistant_strings", {"language": "it"}), 200
        )
    ]


def make_tokenizer(texts: list[str], size: int, folder: Path) -> Path:
    folder.mkdir()
    maker.save(maker.train(texts, size), folder)
    names = {"bos_token": "<|begin_of_text|>", "eos_token": "<|end_of_text|>"}
    write_manifest(
        folder / "manifest.json", kind="tokenizer", name="tokenizer", vocab_size=size, **names
    )
    return folder / "manifest.json"


@pytest.fixture(scope="module")
def tokenizer(texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tokenizer(texts, 1500, tmp_path_factory.mktemp("tokenizer") / "one")


@pytest.fixture
def made(texts: list[str], tokenizer: Path, tmp_path: Path) -> Path:
    """A folder of two shards, as another run left them."""
    for task in range(2):
        documents = [
            Document(str(number), f"s:{number}", text) for number, text in enumerate(texts[task::2])
        ]
        write_split(
            documents, tmp_path / f"{task:05d}.parquet", tmp_path / f"{task:05d}.heldout.parquet", 0
        )
        write_shard(
            tmp_path / f"{task:05d}.parquet",
            tokenizer.parent / "tokenizer.json",
            tmp_path / "elsewhere",
            len(documents),
        )
    return tmp_path / "elsewhere"


def adopt(
    folder: Path, tokenizer: Path, output: Path, *options: str, tasks: int = 2
) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-P",
        "scripts/adopt_tokens.py",
        "--folder",
        str(folder),
        "--origin",
        "another run's",
        "--source",
        "s",
    ]
    command += [
        "--language",
        "ita",
        "--task",
        "1",
        "--tasks",
        str(tasks),
        "--name",
        "00001_unshuffled",
        "--tokenizer",
        str(tokenizer),
    ]
    return subprocess.run(
        [*command, *options, str(output / "00001.json")], capture_output=True, text=True
    )


def test_the_same_bytes_in_their_place_with_their_origin(
    made: Path, tokenizer: Path, tmp_path: Path
) -> None:
    done = adopt(made, tokenizer, tmp_path / "tokens")
    assert done.returncode == 0, done.stderr
    for suffix in SUFFIXES:
        assert (tmp_path / "tokens" / f"00001_unshuffled{suffix}").read_bytes() == (
            made / f"00001_unshuffled{suffix}"
        ).read_bytes()
    manifest = read_manifest(tmp_path / "tokens" / "00001.json", "tokens")
    assert (
        manifest["adopted"] == "another run's"
        and manifest["name"] == "s/00001"
        and manifest["documents"] == 100
    )
    assert manifest["tokens"] == (made / "00001_unshuffled.ds").stat().st_size / 2
    assert manifest["origin"][0]["sha256"] == sha256_file(made / "00001_unshuffled.ds")
    assert not list((tmp_path / "tokens").glob(".*"))


def refused(done: subprocess.CompletedProcess[str], expected: str, output: Path) -> None:
    assert (
        done.returncode == 2
        and done.stderr.count("\n") == 1
        and done.stderr.startswith("error: ")
        and expected in done.stderr
    ), done.stderr
    assert not (output / "00001.json").exists()


def test_another_number_of_shards(made: Path, tokenizer: Path, tmp_path: Path) -> None:
    refused(
        adopt(made, tokenizer, tmp_path / "t", tasks=3),
        "found 2 token shards (*.ds), expected 3",
        tmp_path / "t",
    )


def test_a_shard_that_was_cut_off(made: Path, tokenizer: Path, tmp_path: Path) -> None:
    shard = made / "00001_unshuffled.ds"
    shard.write_bytes(shard.read_bytes()[:-2])
    refused(adopt(made, tokenizer, tmp_path / "t"), "bytes were expected", tmp_path / "t")


def test_metadata_that_is_none(made: Path, tokenizer: Path, tmp_path: Path) -> None:
    (made / "00001_unshuffled.ds.metadata").write_text("nothing")
    refused(
        adopt(made, tokenizer, tmp_path / "t"),
        "expected the lines TOKENIZER|BYTES A TOKEN",
        tmp_path / "t",
    )


def test_the_shards_of_a_larger_vocabulary(made: Path, texts: list[str], tmp_path: Path) -> None:
    small = make_tokenizer(texts, 400, tmp_path / "small")
    refused(adopt(made, small, tmp_path / "t"), "the vocabulary has 400", tmp_path / "t")


def test_other_marks_around_documents(made: Path, tokenizer: Path, tmp_path: Path) -> None:
    refused(
        adopt(made, tokenizer, tmp_path / "t", "--end-token"),
        "100 of 100 documents do not end with token",
        tmp_path / "t",
    )
    ids = np.fromfile(made / "00001_unshuffled.ds", dtype="<u2")
    ids[0] = 7
    ids.tofile(made / "00001_unshuffled.ds")
    refused(
        adopt(made, tokenizer, tmp_path / "t"),
        "1 of 100 documents do not begin with token",
        tmp_path / "t",
    )


def test_the_manifest_is_the_same_in_two_runs(made: Path, tokenizer: Path, tmp_path: Path) -> None:
    texts = []
    for _ in range(2):
        assert adopt(made, tokenizer, tmp_path / "tokens").returncode == 0
        texts.append((tmp_path / "tokens" / "00001.json").read_text())
    assert texts[0] == texts[1] and str(made) not in json.dumps(json.loads(texts[0])["origin"])
