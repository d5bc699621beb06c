"""Which checkpoints and prepared data count as whole."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from zagreus.posttraining.checkpoints import drop_torn_checkpoints, drop_torn_data, torn


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A whole Trainer checkpoint of step 4, with the files that matter."""
    folder = tmp_path / "checkpoint-4"
    folder.mkdir()
    save_file({"weight": torch.ones(10, 10)}, folder / "model.safetensors")
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        torch.save({"state": torch.ones(10)}, folder / name)
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": 4}), encoding="utf-8")
    return folder


def test_a_whole_one_stays(checkpoint: Path) -> None:
    assert torn(checkpoint) is None
    assert drop_torn_checkpoints(checkpoint.parent) == []
    assert checkpoint.exists()


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"])
def test_without_one_file_it_goes(checkpoint: Path, name: str) -> None:
    (checkpoint / name).unlink()
    assert torn(checkpoint)
    assert len(drop_torn_checkpoints(checkpoint.parent)) == 1
    assert not checkpoint.exists()


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"])
@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 0.99])
def test_with_one_file_cut_off_it_goes(checkpoint: Path, name: str, kept: float) -> None:
    file = checkpoint / name
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * kept)])
    assert torn(checkpoint)


def test_a_whole_one_is_kept_beside_a_torn_one(checkpoint: Path) -> None:
    later = checkpoint.with_name("checkpoint-12")
    shutil.copytree(checkpoint, later)
    assert "of step 4" in (torn(later) or "")
    (later / "trainer_state.json").unlink()
    assert [line.split(":")[0] for line in drop_torn_checkpoints(checkpoint.parent)] == ["checkpoint-12"]
    assert checkpoint.exists()


def test_torn_data_goes(tmp_path: Path) -> None:
    for name in ("whole", "torn", "empty"):
        (tmp_path / name).mkdir()
        if name != "empty":
            (tmp_path / name / "data-00000-of-00001.arrow").write_bytes(b"x")
    (tmp_path / "whole" / "dataset_info.json").write_text("{}", encoding="utf-8")
    (tmp_path / "datasets_prep.lock").touch()
    drop_torn_data(tmp_path)
    assert [item.name for item in tmp_path.iterdir()] == ["whole"]
    drop_torn_data(tmp_path / "absent")
