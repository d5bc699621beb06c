"""Items in files made elsewhere: parquet, JSON or JSON lines, read into rows whose columns agree.

What cannot be used is counted by reason, split by split. docs/inputs.md, "Evaluation items".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from zagreus.errors import InputError
from zagreus.evaluation.items import Item, first_line
from zagreus.records import RowError, is_parquet, read_records

MAX_LOST_ROWS = 0.01  # share of the rows of a split
LARGEST = 2**63 - 1  # of parquet's whole numbers
BEYOND, SEVERAL = (
    "a whole number beyond 64 bits",
    "values of several kinds",
)  # no column can hold them

Lost = Counter[str]  # rows by the reason for which they cannot be used


def read_rows(path: Path, name: str, lost: Lost) -> list[Item]:
    """Return the rows of one file, each with an `id` (the row's number, from 0, where it has none).

    Args:
        path: the file.
        name: its name in messages.
        lost: counts the rows that cannot be used.

    Raises:
        InputError: no file of a known format, a damaged or an empty one.
    """

    def lose(error: RowError) -> None:
        lost[error.reason] += 1
        rows.append(None)
        if sum(lost.values()) == 1:
            print(f"left out: {error}", flush=True)

    rows: list[Item | None] = []
    if is_parquet(path, name):
        rows += _parquet_rows(path, name)
    else:
        for record in read_records(path, name, lose=lose):
            rows.append(record.value)
    if not rows:
        raise InputError(f"{name}: found no row, expected items")
    return [
        {**row, "id": _identity(row.get("id"), number)}
        for number, row in enumerate(rows)
        if row is not None
    ]


def _identity(value: object, number: int) -> str:
    return str(number if value is None else value)


def _parquet_rows(path: Path, name: str) -> list[Item]:
    try:
        with pyarrow.parquet.ParquetFile(path, page_checksum_verification=True) as opened:
            names = opened.schema_arrow.names
            if twice := sorted({column for column in names if names.count(column) > 1}):
                raise InputError(
                    f"{name}: found two columns '{twice[0]}', expected different names"
                )
            return opened.read().to_pylist()
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError, ValueError) as error:
        raise InputError(f"{name}: not a whole parquet file ({first_line(error)})") from None


def agreeing(
    splits: Mapping[str, Sequence[Item]], lost: Mapping[str, Lost]
) -> dict[str, list[Item]]:
    """Return the rows that have values of the same kinds as most rows of all splits.

    One table holds all splits, so that a column has one kind: text, whole numbers, numbers, lists,
    mappings. Null agrees with every kind, a whole number with numbers.

    Args:
        splits: rows by split.
        lost: counts, by split, the rows that do not agree.
    """
    counted: dict[str, Counter[str]] = {}
    kinds = {split: [dict(_kinds(row)) for row in rows] for split, rows in splits.items()}
    for found_rows in kinds.values():
        for row_kinds in found_rows:
            for path, kind in row_kinds.items():
                counted.setdefault(path, Counter())[kind] += kind not in (BEYOND, SEVERAL)
    expected = {path: counts.most_common(1)[0][0] for path, counts in counted.items()}
    kept: dict[str, list[Item]] = {}
    for split, rows in splits.items():
        kept[split] = []
        for row, row_kinds in zip(rows, kinds[split], strict=True):
            other = next(
                (path for path, kind in row_kinds.items() if not _agrees(kind, expected[path])),
                None,
            )
            if other is None:
                kept[split].append(row)
            else:
                most = (
                    f" where most rows have {expected[other]}"
                    if expected[other] not in (BEYOND, SEVERAL)
                    else ""
                )
                lost[split][f"column '{other}': {row_kinds[other]}{most}"] += 1
    return kept


def _agrees(kind: str, expected: str) -> bool:
    if kind in (BEYOND, SEVERAL):
        return False
    return kind == expected or (kind, expected) == ("a whole number", "a number")


def _kinds(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield the kind of each value within a row, by path.

    Of a list of several kinds, a kind of its own.
    """
    if value is None:
        return
    if isinstance(value, dict):
        if path:
            yield path, "a mapping"
        for key, part in value.items():
            yield from _kinds(part, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        yield path, "a list"
        kinds: dict[str, str] = {}
        for inner, kind in (pair for part in value for pair in _kinds(part, f"{path}[]")):
            known = kinds.setdefault(inner, kind)
            if not _agrees(kind, known):
                kinds[inner] = kind if _agrees(known, kind) else SEVERAL
        yield from kinds.items()
    elif isinstance(value, bool):
        yield path, "true or false"
    elif isinstance(value, int):
        yield path, "a whole number" if -LARGEST - 1 <= value <= LARGEST else BEYOND
    else:
        names = {float: "a number", str: "text", bytes: "bytes"}
        yield path, names.get(type(value), type(value).__name__)


def check_lost(name: str, split: str, lost: Mapping[str, int], rows: int, limit: float) -> None:
    """Raise `InputError` where more rows of a split are lost than a share of all of them.

    Args:
        name: the data set.
        split: the split.
        lost: rows by reason.
        rows: of the split, those that are lost too.
        limit: the share.
    """
    count = sum(lost.values())
    if count > limit * rows:
        raise InputError(
            f"{name}: {count} of {rows} rows of the split '{split}' cannot be used "
            f"({reasons(lost)}), expected at most"
            f" {limit:.3g} of them ('max_lost_rows')"
        )


def reasons(lost: Mapping[str, int]) -> str:
    """Return counts by reason on one line, the largest first."""
    ordered = sorted(lost.items(), key=lambda item: (-item[1], item[0]))
    return "; ".join(f"{count} {reason}" for reason, count in ordered if count)
