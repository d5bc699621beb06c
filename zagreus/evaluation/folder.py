"""Model folders (Hugging Face format): whether they are whole, before anything is loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from zagreus.errors import InputError
from zagreus.evaluation.templates import render


def check_folder(folder: Path) -> dict[str, Any]:
    """Return a model folder's config.

    Raise `InputError` naming the file that is missing or unreadable.

    Weights are `model.safetensors`, or the shards that `model.safetensors.index.json` names.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such model folder")
    config = _read(folder / "config.json")
    if "model_type" not in config:
        raise InputError(
            f"{folder / 'config.json'}: no key 'model_type', not a transformers configuration"
        )
    _read(folder / "tokenizer_config.json")
    if not any(
        (folder / name).exists() for name in ("tokenizer.json", "tokenizer.model", "vocab.json")
    ):
        raise InputError(f"{folder}: no tokenizer.json, expected the tokenizer beside the weights")
    index = folder / "model.safetensors.index.json"
    names = (
        sorted(set(_read(index)["weight_map"].values()))
        if index.exists()
        else ["model.safetensors"]
    )
    for name in names:
        _check_weights(folder / name)
    return config


def parameters(folder: Path) -> int:
    """Return the number of parameters stored in a folder's safetensors files (tied ones are stored
    once).
    """
    total = 0
    for path in sorted(folder.glob("*.safetensors")):
        for name, tensor in _header(path).items():
            if name != "__metadata__":
                size = 1
                for extent in tensor["shape"]:
                    size *= extent
                total += size
    return total


def check_chat(tokenizer: Any, folder: Path) -> None:
    """Raise `InputError` unless the tokenizer has a chat template whose turns its end-of-sequence
    token ends.

    Generation stops at that token alone: where it is another one, every answer would run on to the
    longest length.
    """
    if not tokenizer.chat_template:
        raise InputError(
            f"{folder}: no chat template in the tokenizer, expected one for a chat evaluation"
        )
    messages = [{"role": "user", "content": "QUESTION"}, {"role": "assistant", "content": "ANSWER"}]
    render(tokenizer, messages[:1], f"{folder}")
    rendered = render(tokenizer, messages, f"{folder}", prompt=False)
    after = rendered.rpartition("ANSWER")[2].strip()
    if not tokenizer.eos_token or not after.startswith(tokenizer.eos_token):
        raise InputError(
            f"{folder}: a turn of the chat template ends with {after!r}, but the tokenizer's "
            f"eos_token is {tokenizer.eos_token!r}"
        )


def _read(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path.parent}: no {path.name}, not a whole model folder") from None
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: invalid JSON ({error})") from None


def _header(path: Path) -> dict[str, Any]:
    """Return a safetensors file's header.

    8 bytes with its length (little-endian), then JSON, then the data.
    """
    with open(path, "rb") as opened:
        return json.loads(opened.read(int.from_bytes(opened.read(8), "little")))


def _check_weights(path: Path) -> None:
    if not path.exists():
        raise InputError(f"{path.parent}: no {path.name}, not a whole model folder")
    try:
        header = _header(path)
        expected = max(
            (
                tensor["data_offsets"][1]
                for name, tensor in header.items()
                if name != "__metadata__"
            ),
            default=0,
        )
    except (
        json.JSONDecodeError,
        UnicodeDecodeError,
        KeyError,
        MemoryError,
        OverflowError,
        TypeError,
        AttributeError,
    ):
        raise InputError(f"{path}: not a safetensors file") from None
    with open(path, "rb") as opened:
        start = 8 + int.from_bytes(opened.read(8), "little")
    size = path.stat().st_size
    if size != start + expected:
        raise InputError(
            f"{path}: {size} bytes, expected {start + expected}; the file is truncated"
        )
