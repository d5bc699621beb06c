"""Worker processes of tokenization: what happens when one of them, or their parent, is killed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from zagreus.data import shards, tokenizer
from zagreus.data.encode import Ends, FastEncoder, Ids
from zagreus.data.workers import PIECE_TOKENS, cut
from zagreus.errors import InputError

DEADLY = "the text that kills"
WORDS = ["uno", "due", "tre", "quattro", "cinque", "sei", "sette", "otto", "nove", "dieci"]


class Mortal(FastEncoder):
    """The engine, in a process that the kernel kills at a certain text, as it does for want of
    memory.
    """

    def encode(self, texts: list[str]) -> tuple[Ids, Ends]:
        if DEADLY in texts:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().encode(texts)


def children(process: int) -> list[int]:
    try:
        return [
            int(number)
            for number in Path(f"/proc/{process}/task/{process}/children").read_text().split()
        ]
    except FileNotFoundError:
        return []


def running(process: int) -> bool:
    """Whether there is such a process that is not merely waiting to be reaped."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save(tokenizer.train([" ".join(WORDS)] * 3, 280), folder)
    return folder / "tokenizer.json"


def write_text(path: Path, texts: list[str], rows: int) -> None:
    pq.write_table(
        pa.table({"id": [str(i) for i in range(len(texts))], "text": texts}),
        path,
        row_group_size=rows,
    )


def test_a_worker_that_is_killed_ends_the_job(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [" ".join(WORDS[index % 10 :]) for index in range(100)]
    texts[73] = DEADLY
    write_text(tmp_path / "00000.parquet", texts, 10)
    monkeypatch.setattr(
        shards, "choose_encoder", lambda description, loaded: (Mortal(description), None)
    )
    monkeypatch.setattr(shards, "sample", lambda parquet, path: [("0", texts[0])])
    before = children(os.getpid())
    with pytest.raises(
        InputError,
        match=(
            "00000.parquet: a worker process was killed by signal 9 in row group 7; out of memory?"
        ),
    ):
        shards.write_shard(tmp_path / "00000.parquet", trained, tmp_path / "out", 100, processes=2)
    assert not list((tmp_path / "out").iterdir())
    assert children(os.getpid()) == before


@pytest.fixture
def started(trained: Path, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A job of two workers that are at work, its parent stopped."""
    texts = [" ".join(WORDS[index % 10 :]) * 2000 for index in range(500)]  # 30 MB or so
    write_text(tmp_path / "00000.parquet", texts, 10)
    program = (
        "import sys; from pathlib import Path; from zagreus.data.shards import write_shard; from "
        "zagreus.errors import run;"
        f"run(lambda: write_shard(Path({str(tmp_path / '00000.parquet')!r}), "
        f"Path({str(trained)!r}), Path({str(tmp_path / 'out')!r}), 500,"
        " processes=2))"
    )
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", program], stderr=subprocess.PIPE, text=True
    )
    while len(children(process.pid)) < 2:
        assert process.poll() is None, "the job ended before its workers were seen"
        time.sleep(0.001)
    process.send_signal(signal.SIGSTOP)
    yield process
    process.kill()
    process.communicate()


def test_no_worker_outlives_its_parent(started: subprocess.Popen[str], tmp_path: Path) -> None:
    workers = children(started.pid)
    time.sleep(0.5)  # they fill the pipes, and wait for a parent that does not read
    assert all(map(running, workers))
    started.kill()
    deadline = time.monotonic() + 20
    while any(map(running, workers)):
        assert time.monotonic() < deadline, "a worker goes on without its parent"
        time.sleep(0.01)
    assert not list((tmp_path / "out").glob("0*"))


def test_the_line_of_a_job_whose_worker_is_killed(
    started: subprocess.Popen[str], tmp_path: Path
) -> None:
    victim, other = children(started.pid)
    os.kill(victim, signal.SIGKILL)
    started.send_signal(signal.SIGCONT)
    errors = started.communicate(timeout=60)[1]
    assert started.returncode == 2
    assert "error: " in errors and "was killed by signal 9" in errors and "Traceback" not in errors
    assert not running(other)
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("token_bytes", [2, 4])
def test_pieces_are_the_batch(token_bytes: int) -> None:
    lengths = np.array([0, 5, 2 * PIECE_TOKENS, 0, PIECE_TOKENS - 5, 0, 7, 0], np.uint64)
    ends = np.cumsum(lengths, dtype=np.uint64)
    ids = np.arange(int(ends[-1]), dtype=np.uint32) % 60_000
    pieces = list(cut(ids, ends, 99, token_bytes))
    assert b"".join(piece.tokens for piece in pieces) == ids.astype(f"<u{token_bytes}").tobytes()
    assert max(len(piece.tokens) for piece in pieces) == PIECE_TOKENS * token_bytes
    starts = np.cumsum([0] + [len(piece.tokens) // token_bytes for piece in pieces[:-1]]).astype(
        np.uint64
    )
    assert np.array_equal(
        np.concatenate([piece.ends + start for piece, start in zip(pieces, starts, strict=True)]),
        ends,
    )
    assert sum(piece.text_bytes for piece in pieces) == 99
    (nothing,) = cut(np.zeros(0, np.uint32), np.zeros(3, np.uint64), 3, token_bytes)
    assert len(nothing.tokens) == 0 and nothing.ends.tolist() == [0, 0, 0]
