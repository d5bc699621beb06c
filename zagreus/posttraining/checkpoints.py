"""Rolling checkpoints and prepared data of a run that was killed: whole ones stay.

Axolotl resumes from the checkpoint with the highest number, whole or not, and loads prepared data
that it was killed while writing. Torn checkpoints are set aside, never deleted: a checkpoint is
hours of training, and this module may know a newer library's files too little. Prepared data are
minutes of work: torn ones are deleted.
"""

from __future__ import annotations

import json
import pickle
import shutil
import struct
import zipfile
from pathlib import Path

# Files of a Trainer checkpoint, by what they hold. Each of FSDP's three kinds of state dict has its
# own: FULL_STATE_DICT saves `pytorch_model_fsdp.bin` (or safetensors) and `optimizer.bin`,
# LOCAL_STATE_DICT `..._rankN.bin` of each rank, SHARDED_STATE_DICT the folders
# `pytorch_model_fsdp_0` and `optimizer_0` (accelerate/utils/fsdp_utils.py).
CONTENT = {
    "weights": ("*.safetensors", "pytorch_model*"),
    "optimizer": ("optimizer.pt", "optimizer.bin", "optimizer_*"),
    "scheduler": ("scheduler.pt",),
    "random state": ("rng_state*.pth",),
}
# torch saves a zip archive, whose directory is at its end.
ZIPPED = (".pt", ".pth", ".bin")
SUFFIX = ".torn"


def set_torn_aside(folder: Path) -> list[str]:
    """Rename the torn ones among `folder/checkpoint-N`; return a line for each: what is wrong.

    They become `folder/torn/checkpoint-N.torn`. Directly in `folder`, transformers would count and
    delete them (`save_total_limit` matches `.*checkpoint-([0-9]+)`).
    """
    lines = []
    for checkpoint in sorted(folder.glob("checkpoint-*")):
        problem = torn(checkpoint) if checkpoint.is_dir() else None
        if problem:
            target = free_name(folder / "torn" / f"{checkpoint.name}{SUFFIX}")
            target.parent.mkdir(exist_ok=True)
            checkpoint.rename(target)
            lines.append(f"{checkpoint.name}: {problem}; set aside as {target}")
    return lines


def free_name(path: Path) -> Path:
    """Return the path, or the first of `PATH.2`, `PATH.3`, ... where something has that name."""
    names = (path.with_name(f"{path.name}.{number}") for number in range(2, 10**6))
    return path if not path.exists() else next(name for name in names if not name.exists())


def torn(checkpoint: Path) -> str | None:
    """Return what is missing or cut off in a Trainer checkpoint, or None when it is whole.

    trainer_state.json is written last; deleting an old checkpoint (`save_total_limit`) may be cut
    off anywhere.
    """
    step = checkpoint.name.rpartition("-")[2]
    try:
        state = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
        saved_step = state.get("global_step")
    except (OSError, ValueError, AttributeError):
        return "trainer_state.json is missing or cut off"
    if str(saved_step) != step:
        return f"trainer_state.json is of step {saved_step}"
    for what, patterns in CONTENT.items():
        if not any(True for pattern in patterns for _ in checkpoint.glob(pattern)):
            return f"no {what}"
    local, states = (
        len(list(checkpoint.glob(name)))
        for name in ("pytorch_model_fsdp_rank*.bin", "rng_state_*.pth")
    )
    if local and local != states:
        return f"weights of {local} ranks, random states of {states}"
    for file in sorted(checkpoint.rglob("*")):
        if cut_off(file):
            return f"{file.relative_to(checkpoint)} is cut off"
    return None


def cut_off(path: Path) -> bool:
    """Return whether a file of a checkpoint is shorter than it says, or a sharded folder lacks
    bytes.
    """
    if path.suffix == ".safetensors":
        return not whole_safetensors(path)
    if path.suffix in ZIPPED and path.is_file():
        return not zipfile.is_zipfile(path)
    if path.is_dir() and path.name.startswith(("optimizer_", "pytorch_model_fsdp_")):
        return not whole_sharded(path)
    return False


def whole_sharded(folder: Path) -> bool:
    """Return whether a folder of torch.distributed.checkpoint has all bytes that its metadata
    names.
    """
    # Imported here: the environment must have been prepared first.
    from torch.distributed.checkpoint import FileSystemReader

    try:
        stored = FileSystemReader(folder).read_metadata().storage_data or {}
        ends: dict[str, int] = {}
        for info in stored.values():
            ends[info.relative_path] = max(
                ends.get(info.relative_path, 0), info.offset + info.length
            )
        return bool(ends) and all(
            (folder / name).stat().st_size >= end for name, end in ends.items()
        )
    except (
        OSError,
        EOFError,
        pickle.UnpicklingError,
        AttributeError,
        ValueError,
        KeyError,
        IndexError,
    ):
        return False


def whole_safetensors(file: Path) -> bool:
    """Return whether the file is as long as its header says (eight bytes of header length, header,
    tensors).
    """
    size = file.stat().st_size
    with open(file, "rb") as opened:
        start = opened.read(8)
        if len(start) < 8:
            return False
        (length,) = struct.unpack("<Q", start)
        if 8 + length > size:
            return False
        try:
            header = json.loads(opened.read(length))
        except ValueError:  # zeros: the file has its length, and its content never came to the disk
            return False
    return (
        8
        + length
        + max(
            (entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"),
            default=0,
        )
        == size
    )


def drop_torn_data(folder: Path) -> None:
    """Delete prepared data that were not written to their end, and the lock's files that a killed
    run left beside them.

    `datasets` writes dataset_info.json last.
    """
    for prepared in sorted(folder.glob("*")) if folder.exists() else []:
        if prepared.is_file():
            prepared.unlink()
            continue
        arrows = {file.parent for file in prepared.rglob("*.arrow")}
        if not arrows or not all((inner / "dataset_info.json").exists() for inner in arrows):
            shutil.rmtree(prepared)
