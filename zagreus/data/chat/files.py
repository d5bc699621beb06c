"""Chat rows from files of others: parquet, JSON lines or JSON, with the columns of the config."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from zagreus.data.chat.messages import from_columns
from zagreus.data.chat.rows import Row, check_row
from zagreus.errors import InputError
from zagreus.losses import Losses
from zagreus.records import RowError, is_parquet, read_records

BATCH_ROWS = 1000


def read_files(
    files: list[Path],
    columns: Mapping[str, str] | None,
    losses: Losses,
) -> Iterator[Row]:
    """Yield the rows of parquet, JSON lines or JSON files that can be used.

    Args:
        files: in order; what they are is seen from their first bytes.
        columns: which column is `messages`, and for preferences which is `chosen` and which
            `rejected`; None where the rows are chat rows of ours already.
        losses: counts the rows that cannot be used, by reason.

    Raises:
        InputError: a file that cannot be read, or that has no such column.
    """
    for file in files:
        wanted = list(columns.values()) if columns else ["id"]
        found = _parquet(file, wanted) if is_parquet(file) else _json(file, losses)
        for number, where, record in found:
            try:
                row = _row(record, columns, number, where) if columns else record
                check_row(row, where)
            except RowError as error:
                losses.lose(error)
                continue
            yield row


def _row(record: Mapping[str, Any], columns: Mapping[str, str], number: int, where: str) -> Row:
    """Return a record as a chat row; its content's sha256 is its key."""
    values = from_columns(record, columns, where)
    content = json.dumps(values, ensure_ascii=False, sort_keys=True).encode("utf-8")
    return {"id": f"{hashlib.sha256(content).hexdigest()[:16]}/{number}", **values}


def _json(file: Path, losses: Losses) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """Yield (number from 0, file and place, record)."""
    for number, record in enumerate(read_records(file, lose=losses.lose)):
        yield number, f"{file}, {record.place}", record.value


def _parquet(file: Path, wanted: list[str]) -> Iterator[tuple[int, str, dict[str, Any]]]:
    try:
        opened = pyarrow.parquet.ParquetFile(file)
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(f"{file}: not a whole parquet file ({_first_line(error)})") from None
    with opened:
        names = opened.schema_arrow.names
        missing = [column for column in wanted if column not in names]
        if missing:
            raise InputError(f"{file}: no column {missing}, it has {names}")
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise InputError(f"{file}: columns {twice} occur twice, expected one of each name")
        number = 0
        try:
            for batch in opened.iter_batches(BATCH_ROWS):
                for record in batch.to_pylist():
                    yield number, f"{file}, row {number}", record
                    number += 1
        except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
            problem = f"cannot be read from row {number} on ({_first_line(error)})"
            raise InputError(f"{file}: {problem}") from None


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
