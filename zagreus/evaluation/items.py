"""Items of an evaluation data set: which are taken, in what order, and how they are written."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from zagreus.atomic import atomic_file
from zagreus.errors import InputError

Item = dict[str, Any]


def rank(*parts: object) -> int:
    """Return a number, uniform over 0 to 2^64 - 1, that depends on the parts alone (the first eight bytes of a sha256)."""
    return int.from_bytes(hashlib.sha256("\x1f".join(map(str, parts)).encode("utf-8")).digest()[:8], "big")


def take(items: Iterable[Item], limit: int | None, name: str) -> list[Item]:
    """Return at most `limit` items in the order of their ids' hashes: an even sample, and a smaller limit takes a part of it.

    Args:
        items: with unique `id`s.
        limit: how many; None for all.
        name: the data set, for the message.

    Raises:
        InputError: there are no items, or two have the same id.
    """
    ordered = sorted(items, key=lambda item: (rank(item["id"]), item["id"]))
    if not ordered:
        raise InputError(f"{name}: no items, expected at least one")
    for one, other in itertools.pairwise(ordered):
        if one["id"] == other["id"]:
            raise InputError(f"{name}: two items with the id '{one['id']}'")
    return ordered[:limit]


def write_items(path: Path, splits: Mapping[str, Sequence[Item]]) -> None:
    """Write the items of all splits as one parquet file with a column `split`, whole or not at all."""
    rows = [{**item, "split": split} for split, items in splits.items() for item in items]
    with atomic_file(path) as partial:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), partial, compression="zstd")


def read_table(path: Path, columns: Iterable[str]) -> pyarrow.Table:
    """Read a parquet file's columns; raise `InputError` when it is missing, is no parquet file, or lacks a column."""
    try:
        with pyarrow.parquet.ParquetFile(path) as opened:
            missing = [column for column in columns if column not in opened.schema_arrow.names]
            if missing:
                raise InputError(f"{path}: no column '{missing[0]}', it has {', '.join(opened.schema_arrow.names)}")
            return opened.read(columns=list(columns))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except pyarrow.ArrowException as error:
        raise InputError(f"{path}: not a whole parquet file ({str(error).splitlines()[0]})") from None
