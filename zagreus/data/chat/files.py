"""Chat rows from files of others: parquet, JSON lines or JSON, with the columns of the config."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from zagreus.data.chat.messages import from_columns, names_of
from zagreus.data.chat.rows import Row, check_row
from zagreus.data.parquet import open_parquet
from zagreus.errors import InputError
from zagreus.losses import Losses
from zagreus.records import RowError, is_parquet, read_records


def read_files(
    files: list[Path],
    columns: Mapping[str, Any] | None,
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
        records = _parquet(file, columns) if is_parquet(file) else _json(file, losses)
        for number, where, record in records:
            try:
                row = _row(record, columns, number, where) if columns else record
                check_row(row, where)
            except RowError as error:
                losses.lose(error)
                continue
            yield row


def _row(record: Mapping[str, Any], columns: Mapping[str, Any], number: int, where: str) -> Row:
    """Return a record as a chat row; its content's sha256 is its key."""
    values = from_columns(record, columns, where)
    said = {key: value for key, value in values.items() if key != "columns"}
    content = json.dumps(said, ensure_ascii=False, sort_keys=True).encode("utf-8")
    return {"id": f"{hashlib.sha256(content).hexdigest()[:16]}/{number}", **values}


def _json(file: Path, losses: Losses) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """Yield (number from 0, file and place, record)."""
    for number, record in enumerate(read_records(file, lose=losses.lose)):
        yield number, f"{file}, {record.location}", record.value


def _parquet(
    file: Path,
    columns: Mapping[str, Any] | None,
) -> Iterator[tuple[int, str, dict[str, Any]]]:
    column_names = names_of(columns) if columns else None
    with open_parquet(file, str(file), column_names) as reader:
        number = 0
        for batch in reader.batches():
            try:
                records = batch.to_pylist()
            except (UnicodeDecodeError, ValueError, OverflowError) as error:
                # Text within lists is not checked when it is read; a date may be beyond Python's.
                problem = f"found a value that cannot be read in rows {number} and after ({error})"
                raise InputError(f"{file}: {problem}") from None
            for record in records:
                yield number, f"{file}, row {number}", record
                number += 1
