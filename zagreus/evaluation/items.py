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
    """Return a number, uniform over 0 to 2^64 - 1, that depends on the parts alone (the first eight
    bytes of a sha256).
    """
    return int.from_bytes(
        hashlib.sha256("\x1f".join(map(str, parts)).encode("utf-8")).digest()[:8], "big"
    )


def take(items: Iterable[Item], limit: int | None, name: str) -> list[Item]:
    """Return at most `limit` items in the order of their ids' hashes.

    An even sample, and a smaller limit takes a part of it.

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
    """Write the items of all splits as one parquet file with a column `split`, whole or not at all.

    The file has the columns of all items; what an item does not have is null.

    Raises:
        InputError: a column holds values of kinds that no column can hold together.
    """
    rows = [{**item, "split": split} for split, items in splits.items() for item in items]
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: _column(path, name, [row.get(name) for row in rows]) for name in names}
    with atomic_file(path) as partial:
        try:
            pyarrow.parquet.write_table(pyarrow.table(columns), partial, compression="zstd")
        except pyarrow.ArrowNotImplementedError as error:  # mappings without a key
            raise InputError(
                f"{path.stem}: parquet cannot hold the items ({first_line(error)})"
            ) from None


def _column(path: Path, name: str, values: list[Any]) -> pyarrow.Array:
    try:
        return pyarrow.array(values)
    except (pyarrow.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise InputError(
            f"{path.stem}: column '{name}' holds values of several kinds ({first_line(error)})"
        ) from None


def first_line(error: BaseException) -> str:
    """Return what an exception says, on one line."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def read_table(path: Path, columns: Iterable[str]) -> pyarrow.Table:
    """Read a parquet file's columns.

    Raise `InputError` when it is missing, is no parquet file, or lacks a column.
    """
    try:
        with pyarrow.parquet.ParquetFile(path) as opened:
            missing = [column for column in columns if column not in opened.schema_arrow.names]
            if missing:
                raise InputError(
                    f"{path}: no column '{missing[0]}', it has "
                    f"{', '.join(opened.schema_arrow.names)}"
                )
            return opened.read(columns=list(columns))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(f"{path}: not a whole parquet file ({first_line(error)})") from None
