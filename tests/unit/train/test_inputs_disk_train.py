"""A full disk under every script of the training's image."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import gguf  # noqa: F401 - the libraries are there before the scripts fork
import pytest
import safetensors.torch  # noqa: F401
import torch.distributed  # noqa: F401
import transformers
from small import Training
from test_baseline import small_model, small_tokenizer
from test_convert import prepared

from tests.unit.forked import Done, run_script
from tests.unit.full_disk import check, small_disk


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Training:
    """A checkpoint after eight steps with all that `convert` reads, and a model of another kind."""
    torch.set_num_threads(1)
    training = prepared(Training(tmp_path_factory.mktemp("trained")))
    other = training.root / "other"
    small_model().save_pretrained(other)
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=small_tokenizer(), eos_token="<|im_end|>"
    ).save_pretrained(other)
    done = run_script("scripts/convert.py", SCRIPTS["convert"](training, training.root))
    assert done.status == 0, done.stderr
    return training


# How each script is called on what `trained` made, with what it makes below a folder.
SCRIPTS: dict[str, Callable[[Training, Path], list[object]]] = {
    "convert": lambda ours, out: [
        *(
            "--checkpoint",
            ours.root / "8.json",
            "--recipe",
            ours.recipe,
            "--model",
            "m",
            "--title",
            "A test",
        ),
        *(
            "--mixture",
            '{"a": 0.6, "b": 0.4}',
            "--tokenizer",
            ours.root / "tokenizer/manifest.json",
        ),
        *(
            "--sources",
            ours.root / "sources/a.json",
            ours.root / "sources/b.json",
            "--output",
            out / "models/m/8/manifest.json",
        ),
    ],
    "fetch_model": lambda ours, out: [
        *(
            "--model",
            "other",
            "--entry",
            json.dumps({"kind": "local", "folder": str(ours.root / "other"), "title": "Other"}),
        ),
        *("--output", out / "models/other/release/manifest.json"),
    ],
    "adopt_model": lambda ours, out: [
        *(
            "--entry",
            json.dumps({"folder": str(ours.root / "other"), "origin": "a test"}),
            "--model",
            "m",
            "--title",
            "M",
        ),
        *("--checkpoint", "9", "--output", out / "models/m/9/manifest.json"),
    ],
    "sample": lambda ours, out: [
        *(
            "--model",
            ours.root / "models/m/8/manifest.json",
            "--prompts",
            '{"eng": ["In the"]}',
            "--tokens",
            4,
        ),
        *("--output", out / "samples/m/8.json"),
    ],
}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", 16) as mounted:
        yield mounted


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts(name: str, trained: Training, disk: Path) -> None:
    check(
        disk,
        lambda: run_script(f"scripts/{name}.py", SCRIPTS[name](trained, disk)),
        rooms=(0, 16384),
    )


def test_pretrain(disk: Path) -> None:
    """Full at the lock, at the first checkpoint, at a later one, at the log.

    Then it ends with the same weights as ever.
    """
    training = Training(disk)
    checkpoint = 200_000  # bytes, about: weights and optimizer

    def script() -> Done:
        return run_script("scripts/pretrain.py", training.command(16)[3:])

    done = check(
        disk,
        script,
        rooms=(0, 4096, checkpoint // 2, 2 * checkpoint),
        working=["checkpoints", "tensorboard"],
    )
    assert done.status == 0
    assert sorted(item.name for item in (disk / "checkpoints").iterdir()) == [".lock", "16"]
    whole = training.weights(16)
    for made in ("16.json", "16.run.json", "16.jsonl"):
        (disk / made).unlink()
    shutil.rmtree(disk / "checkpoints")
    assert script().status == 0 and training.weights(16) == whole
