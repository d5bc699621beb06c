"""Measurements of an export: one speed for each number of threads, by either clock."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from zagreus.errors import InputError
from zagreus.export.gguf_file import write_gguf
from zagreus.export.measure import NEW, PROMPT, measure, measured
from zagreus.export.model_folder import ModelFolder


@pytest.fixture(scope="module")
def file(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("export") / "a.gguf"
    write_gguf(ModelFolder(model), "f16", "small", ["en"], True, path)
    return path


def test_speeds_are_those_of_a_clock(file: Path) -> None:
    ticks = iter(range(1000))
    result = measured(file, 2, rounds=1, clock=lambda: float(next(ticks)))
    assert [speed["threads"] for speed in result["speeds"]] == [1, 2]
    # Each run is from one tick to the next; a busy machine may not write all tokens in time.
    assert all(speed["prefill"] == PROMPT for speed in result["speeds"])
    assert all(1 <= speed["decode"] <= NEW for speed in result["speeds"])
    assert result["bytes"] == file.stat().st_size


def test_cpu_seconds_are_not_more_than_there_were(file: Path) -> None:
    started = time.monotonic()
    command = [sys.executable, "-P", "-m", "zagreus.export.measure", str(file)]
    command += ["--threads", "1", "--rounds", "1", "--cpu-seconds"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds = time.monotonic() - started
    (speed,) = json.loads(done.stdout)["speeds"]
    assert 0 < PROMPT / speed["prefill"] < seconds and speed["decode"] > 0


def test_a_file_that_cannot_be_measured_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.gguf").write_bytes(b"GGUF")
    with pytest.raises(InputError, match=r"a\.gguf: could not be measured \(.*cannot load"):
        measure(tmp_path / "a.gguf", 1)
