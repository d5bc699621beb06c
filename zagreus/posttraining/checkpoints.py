"""Rolling checkpoints and prepared data of a run that was killed: what is whole stays, what is torn goes.

Axolotl resumes from the checkpoint with the highest number, whole or not, and loads prepared data that it was killed while writing.
"""

from __future__ import annotations

import json
import shutil
import struct
import zipfile
from pathlib import Path


def drop_torn_checkpoints(folder: Path) -> list[str]:
    """Delete the torn ones among `folder/checkpoint-N`, and return their names with what was wrong."""
    dropped = []
    for checkpoint in sorted(folder.glob("checkpoint-*")):
        problem = torn(checkpoint)
        if problem:
            shutil.rmtree(checkpoint)
            dropped.append(f"{checkpoint.name}: {problem}")
    return dropped


def torn(checkpoint: Path) -> str | None:
    """Return what is missing or cut off in a Trainer checkpoint, or None when it is whole.

    trainer_state.json is written last; deleting an old checkpoint (`save_total_limit`) may be cut off anywhere.
    """
    try:
        state = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return "trainer_state.json is missing or cut off"
    if state.get("global_step") != int(checkpoint.name.rpartition("-")[2]):
        return f"trainer_state.json is of step {state.get('global_step')}"
    # A checkpoint of FSDP holds folders in place of the two single files.
    for what, patterns in {
        "weights": ("*.safetensors", "pytorch_model_fsdp*"),
        "optimizer": ("optimizer.pt", "optimizer_*"),
        "scheduler": ("scheduler.pt",),
        "random state": ("rng_state*.pth",),
    }.items():
        if not any(True for pattern in patterns for _ in checkpoint.glob(pattern)):
            return f"no {what}"
    for file in sorted(checkpoint.rglob("*")):
        if file.suffix == ".safetensors" and not whole_safetensors(file):
            return f"{file.name} is cut off"
        # torch saves a zip archive, whose directory is at its end.
        if file.suffix in (".pt", ".pth") and not zipfile.is_zipfile(file):
            return f"{file.name} is cut off"
    return None


def whole_safetensors(file: Path) -> bool:
    """Return whether the file is as long as its header says (eight bytes of header length, header, tensors)."""
    size = file.stat().st_size
    with open(file, "rb") as opened:
        start = opened.read(8)
        if len(start) < 8:
            return False
        (length,) = struct.unpack("<Q", start)
        if 8 + length > size:
            return False
        header = json.loads(opened.read(length))
    return 8 + length + max((entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"), default=0) == size


def drop_torn_data(folder: Path) -> None:
    """Delete prepared data that were not written to their end, and the lock's files that a killed run left beside them.

    `datasets` writes dataset_info.json last.
    """
    for prepared in sorted(folder.glob("*")) if folder.exists() else []:
        if prepared.is_file():
            prepared.unlink()
            continue
        arrows = {file.parent for file in prepared.rglob("*.arrow")}
        if not arrows or not all((inner / "dataset_info.json").exists() for inner in arrows):
            shutil.rmtree(prepared)
