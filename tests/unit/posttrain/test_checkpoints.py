"""Which checkpoints and prepared data count as whole."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch.distributed.checkpoint import FileSystemWriter, save

from zagreus.posttraining.checkpoints import drop_torn_data, set_torn_aside, torn


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
    assert set_torn_aside(checkpoint.parent) == []
    assert checkpoint.exists()


@pytest.mark.parametrize(
    "name",
    ["model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"],
)
def test_without_one_file_it_goes(checkpoint: Path, name: str) -> None:
    (checkpoint / name).unlink()
    left = sorted(path.name for path in checkpoint.iterdir())
    assert torn(checkpoint)
    (line,) = set_torn_aside(checkpoint.parent)
    aside = checkpoint.parent / "torn" / "checkpoint-4.torn"
    assert line.startswith("checkpoint-4: ") and str(aside) in line
    assert not checkpoint.exists() and sorted(path.name for path in aside.iterdir()) == left


@pytest.mark.parametrize(
    "name",
    ["model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"],
)
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
    assert [line.split(":")[0] for line in set_torn_aside(checkpoint.parent)] == ["checkpoint-12"]
    assert checkpoint.exists()


# The names that accelerate's fsdp_utils and transformers' Trainer give, for two processes.
FULL = {"pytorch_model_fsdp.bin", "optimizer.bin"}
LOCAL = {"pytorch_model_fsdp_rank0.bin", "pytorch_model_fsdp_rank1.bin", "optimizer_0"}
SHARDED = {"pytorch_model_fsdp_0", "optimizer_0"}
KINDS = {"full": FULL, "local": LOCAL, "sharded": SHARDED}


def sharded_by_fsdp(folder: Path, kind: str) -> Path:
    """Write a whole checkpoint of one of FSDP's kinds of state dict."""
    folder.mkdir()
    for name in (
        *KINDS[kind],
        "scheduler.pt",
        "rng_state_0.pth",
        "rng_state_1.pth",
        "training_args.bin",
    ):
        state = {"state": torch.ones(10), "other": torch.zeros(3, 5)}
        if name.endswith("_0"):
            save(state, storage_writer=FileSystemWriter(folder / name), no_dist=True)
        else:
            torch.save(state, folder / name)
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": 4}), encoding="utf-8")
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_fsdps_checkpoints_are_whole(tmp_path: Path, kind: str) -> None:
    assert torn(sharded_by_fsdp(tmp_path / "checkpoint-4", kind)) is None
    assert set_torn_aside(tmp_path) == []


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind, names in KINDS.items() for name in sorted(names)]
)
@pytest.mark.parametrize("kept", [0.0, 0.5])
def test_fsdps_files_that_are_cut_off_are_found(
    tmp_path: Path, kind: str, name: str, kept: float
) -> None:
    checkpoint = sharded_by_fsdp(tmp_path / "checkpoint-4", kind)
    files = (
        [checkpoint / name]
        if (checkpoint / name).is_file()
        else sorted((checkpoint / name).iterdir())
    )
    assert files
    for file in files:
        content = file.read_bytes()
        file.write_bytes(content[: int(len(content) * kept)])
        assert torn(checkpoint), file
        file.unlink()
        assert torn(checkpoint), file
        file.write_bytes(content)
    assert torn(checkpoint) is None


def test_two_of_one_name_are_both_kept(checkpoint: Path) -> None:
    for _ in range(2):
        copy = checkpoint.with_name("checkpoint-8")
        shutil.copytree(checkpoint, copy)
        set_torn_aside(checkpoint.parent)
    assert sorted(path.name for path in (checkpoint.parent / "torn").iterdir()) == [
        "checkpoint-8.torn",
        "checkpoint-8.torn.2",
    ]


def test_a_checkpoint_of_zeros_is_torn(checkpoint: Path) -> None:
    """Its length came to the disk, its content did not."""
    for name in ("model.safetensors", "optimizer.pt"):
        content = (checkpoint / name).read_bytes()
        (checkpoint / name).write_bytes(b"\0" * len(content))
        assert torn(checkpoint)
        (checkpoint / name).write_bytes(content)
    (checkpoint / "trainer_state.json").write_text("[]", encoding="utf-8")
    assert torn(checkpoint)


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
