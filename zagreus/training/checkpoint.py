"""Checkpoints on disk: whole or not at all, checked when read.

`CHECKPOINTS/STEP/` holds `weights.safetensors`, `optimizer.safetensors`, `log.jsonl` (the log of
the segment so far) and `state.json`: step, fingerprints of recipe and data, samples drawn from each
folder, sha256 of the tensors' files. There is no random state to keep: after the first weights are
drawn, nothing in the training is random.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from zagreus.atomic import atomic_folder
from zagreus.errors import InputError
from zagreus.failures import explain
from zagreus.manifest import sha256_file

_TENSORS = ("weights.safetensors", "optimizer.safetensors")


@dataclass
class State:
    """What a checkpoint says of itself."""

    step: int
    recipe: str  # fingerprint of the recipe's slice up to the step
    data: (
        str | None
    )  # fingerprint of the token shards; None where another trainer made the checkpoint
    drawn: list[
        list[int]
    ]  # samples taken from each folder so far, in each data stage; empty: to be counted
    tokens: int  # tokens seen so far
    sha256: dict[str, str]  # of each file of tensors


def save(
    folder: Path,
    state: State,
    weights: dict[str, Tensor],
    optimizer: dict[str, Tensor],
    log: list[str],
) -> State:
    """Write a checkpoint under its final name in one rename.

    Return its state with the files' hashes. The tensors lie on the CPU, each in
    memory of its own, as safetensors wants them."""
    try:
        with atomic_folder(folder, settled=True) as partial:
            for name, tensors in zip(_TENSORS, (weights, optimizer), strict=True):
                save_file(tensors, partial / name)
                state.sha256[name] = sha256_file(partial / name)
            (partial / "log.jsonl").write_text("".join(log), encoding="utf-8")
            (partial / "state.json").write_text(
                json.dumps(asdict(state), indent=2) + "\n", encoding="utf-8"
            )
            for item in partial.iterdir():
                with open(item, "rb") as written:
                    os.fsync(written.fileno())
    except (
        OSError,
        SafetensorError,
    ) as error:  # safetensors does not pass the system's errors on as such
        raise InputError(
            f"{folder}: cannot write the checkpoint ({explain(error)[0]}); what was saved before "
            "is still there"
        ) from error
    return state


def read_state(folder: Path) -> State:
    """Return the state of a checkpoint.

    Raise `InputError` where the folder is none or its tensors are not those that were written.
    """
    try:
        state = State(**json.loads((folder / "state.json").read_text(encoding="utf-8")))
        for name in _TENSORS:
            if sha256_file(folder / name) != state.sha256[name]:
                raise InputError(
                    f"{folder / name}: damaged, its sha256 is not the one in state.json"
                )
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"{folder}: not a checkpoint ({error})") from None
    return state


def load(folder: Path) -> tuple[dict[str, Tensor], dict[str, Tensor], list[str]]:
    """Return the weights, the optimizer's tensors and the log lines of a checkpoint."""
    lines = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    return load_file(folder / _TENSORS[0]), load_file(folder / _TENSORS[1]), lines


def saved_steps(folder: Path) -> list[int]:
    """Return the steps that have a folder with a final name, in order."""
    return sorted(
        int(item.name) for item in folder.glob("*") if item.name.isdecimal() and item.is_dir()
    )


def newest(folder: Path, after: int, step: int, recipes: dict[int, str], data: str) -> int | None:
    """Return the newest usable save of the segment (after, step], or None where it has none.

    A damaged save is passed over. One of another recipe or of other data is refused, unless it is
    the segment's last step: then it is the result of an earlier run, which this run replaces.

    Args:
        recipes: fingerprint of the present recipe at each saved step.
        data: fingerprint of the present token shards.

    Raises:
        InputError: a save in between belongs to another recipe or to other data.
    """
    for candidate in reversed([saved for saved in saved_steps(folder) if after < saved <= step]):
        try:
            state = read_state(folder / str(candidate))
        except InputError as error:
            print(f"passed over: {error}", file=sys.stderr)
            continue
        other = (
            "another recipe"
            if state.recipe != recipes[candidate]
            else "other data"
            if state.data != data
            else None
        )
        if other is None:
            return candidate
        if candidate < step:
            raise InputError(
                f"{folder / str(candidate)}: a checkpoint of {other}; remove it to train without it"
            )
    return None


def prune(folder: Path, after: int, before: int, keep: int) -> None:
    """Remove the rolling saves strictly between two steps but for the newest `keep`."""
    between = [saved for saved in saved_steps(folder) if after < saved < before]
    for saved in between[: max(0, len(between) - keep)]:
        shutil.rmtree(folder / str(saved))
