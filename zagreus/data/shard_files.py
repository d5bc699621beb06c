"""The three files of a token shard in datatrove's format, checked against one another. numpy only.

The host adopts shards with it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from zagreus.errors import InputError
from zagreus.manifest import read_manifest

SUFFIXES = (".ds", ".ds.index", ".ds.metadata")


@dataclass
class Shard:
    """A shard's files and what is in them."""

    files: list[Path]
    documents: int
    tokens: int
    token_bytes: int


def check_shard(data: Path, vocab_size: int) -> Shard:
    """Check that a shard's three files agree with one another and with the vocabulary, and return
    what is in it.

    Args:
        data: the `.ds` file.
        vocab_size: number of tokens of the vocabulary; every id must be below it.

    Raises:
        InputError: a file is missing or has another size than the others say, document ends that
            fall, an id that is not in the vocabulary. A shard without a token is whole: not every
            file of a source has a document.
    """
    files = [data.with_suffix(suffix) for suffix in SUFFIXES]
    for file in files:
        if not file.is_file():
            raise InputError(f"{file}: missing, the shard is not whole")
    try:
        header, count = files[2].read_text(encoding="utf-8").split("\n")[:2]
        tokens, token_bytes = int(count), int(header.rpartition("|")[2])
    except ValueError:
        raise InputError(
            f"{files[2]}: expected the lines TOKENIZER|BYTES A TOKEN and NUMBER OF TOKENS"
        ) from None
    ends = np.fromfile(files[1], dtype="<u8")
    if files[0].stat().st_size != tokens * token_bytes:
        raise InputError(
            f"{data}: {files[0].stat().st_size} bytes, {tokens} tokens of {token_bytes} bytes "
            "were expected"
        )
    if (int(ends[-1]) if len(ends) else 0) != tokens or np.any(ends[1:] < ends[:-1]):
        raise InputError(f"{files[1]}: the document ends do not rise to {tokens}")
    ids = np.memmap(data, dtype=f"<u{token_bytes}", mode="r") if tokens else np.zeros(0)
    highest = max(
        (int(ids[start : start + 2**24].max()) for start in range(0, tokens, 2**24)), default=0
    )
    if highest >= vocab_size:
        raise InputError(f"{data}: token {highest}, the vocabulary has {vocab_size}")
    return Shard(files, len(ends), tokens, token_bytes)


def nth_shard(folder: Path, task: int, tasks: int) -> Path:
    """Return the `.ds` file of a task among shards that were made elsewhere.

    That of its number in the order of names.

    Raises:
        InputError: there are not as many shards as tasks.
    """
    shards = sorted(folder.glob("*.ds"))
    if len(shards) != tasks:
        raise InputError(
            f"{folder}: found {len(shards)} token shards (*.ds), expected {tasks}, the `tasks` of "
            "the source"
        )
    return shards[task]


def _token_id(file: Path, token: str) -> int | None:
    """Return the id of a token by tokenizer.json; None where the file has no such token."""
    description = json.loads(file.read_text(encoding="utf-8"))
    added = {item["content"]: item["id"] for item in description["added_tokens"]}
    if token in added:
        return int(added[token])
    vocabulary = description["model"].get("vocab")
    return vocabulary.get(token) if isinstance(vocabulary, dict) else None


def check_marks(shard: Shard, tokenizer: Path, end_token: bool) -> int:
    """Check that a whole shard is one of this tokenizer.

    Token size, and the token that marks each document.

    Args:
        tokenizer: the manifest in the tokenizer's folder.
        end_token: whether each document ends with the end token; else each begins with the begin
            token.

    Returns:
        The tokens of the longest document.

    Raises:
        InputError: the tokenizer would not have written it.
    """
    manifest, data = read_manifest(tokenizer, "tokenizer"), shard.files[0]
    expected = 2 if manifest["vocab_size"] <= 1 << 16 else 4
    if shard.token_bytes != expected:
        raise InputError(
            f"{data}: {shard.token_bytes} bytes a token, expected {expected} for "
            f"{manifest['vocab_size']:,} entries"
        )
    key, does = ("eos_token", "end") if end_token else ("bos_token", "begin")
    mark = manifest[key] and _token_id(tokenizer.parent / "tokenizer.json", manifest[key])
    if mark is None:
        raise InputError(
            f"{tokenizer}: no {key} by which a document could {does}; set `end_token: true` in "
            "`shards`"
        )
    ends = np.fromfile(data.with_suffix(".ds.index"), dtype="<u8").astype(np.int64)
    lengths = np.diff(ends, prepend=0)
    positions = (ends - 1 if end_token else ends - lengths)[lengths > 0]
    marks = (
        np.memmap(data, dtype=f"<u{expected}", mode="r")[positions]
        if len(positions)
        else np.zeros(0)
    )
    without = int((marks != mark).sum())
    if without:
        raise InputError(
            f"{data}: {without:,} of {len(positions):,} documents do not {does} with token {mark} "
            f"({manifest[key]}), as ours do"
        )
    return int(lengths.max(initial=0))
