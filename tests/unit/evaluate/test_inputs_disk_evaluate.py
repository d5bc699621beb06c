"""A full disk under `evaluate`, with finished tasks kept beside its results."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import lm_eval  # noqa: F401 - the libraries are there before the script forks
import pytest
import torch
import transformers  # noqa: F401
from small import lines, make_data, make_model

from tests.unit.forked import Done, run_script
from tests.unit.full_disk import check, small_disk

TASK = {
    "name": "heldout",
    "language": "eng",
    "recipe": "recipes/evaluate/heldout.yaml",
    "data": "heldout",
    "num_fewshot": 0,
}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", 16) as mounted:
        yield mounted


def test_evaluate(disk: Path, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    texts = lines(12)
    items = [
        {"id": str(n), "text": text, "bytes": len(text.encode()), "unigram_bits": 5.0 * len(text)}
        for n, text in enumerate(texts)
    ]
    make_data(tmp_path / "data", "heldout", items)
    model = make_model(tmp_path / "model")

    def script() -> Done:
        inputs = [
            "--model",
            model,
            "--suite",
            "all",
            "--data",
            tmp_path / "data",
            "--tasks",
            json.dumps([TASK]),
        ]
        return run_script(
            "scripts/evaluate.py",
            [*inputs, "--items", disk / "all.items.parquet", "--output", disk / "all.json"],
        )

    check(disk, script, rooms=(0, 4096, 8192, 12288, 16384))
    assert sorted(path.name for path in disk.iterdir()) == [
        "all.items.parquet",
        "all.json",
        "all.run.json",
    ]
