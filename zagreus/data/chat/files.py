"""Chat rows from files of others: parquet or JSON lines, with the columns named in the config."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from zagreus.data.chat.rows import Row, check_row
from zagreus.errors import InputError

# The two usual ways to write a message, and the roles' other names.
MESSAGE_KEYS = (("role", "content"), ("from", "value"))
ROLE_NAMES = {"human": "user", "gpt": "assistant", "bot": "assistant", "model": "assistant"}


def read_files(files: list[Path], columns: Mapping[str, str] | None, strict: bool) -> Iterator[Row]:
    """Yield the rows of parquet or JSON lines files.

    Args:
        files: `.parquet`, `.jsonl` or `.json` (JSON lines), in order.
        columns: which column is `messages`, and for preferences which is `chosen` and which `rejected`; None where the rows are
            chat rows of ours already.
        strict: an invalid row is an `InputError`; otherwise it is left out (foreign data: empty messages, two users in turn).
    """
    for file in files:
        for number, record in enumerate(_records(file, list(columns.values()) if columns else ["id"])):
            row = _row(record, columns, number) if columns else record
            try:
                check_row(row, f"{file}, row {number}")
            except InputError:
                if strict:
                    raise
                continue
            yield row


def _row(record: Mapping[str, Any], columns: Mapping[str, str], number: int) -> Row:
    """Return a record as a chat row; its content's sha256 is its key."""
    values = {key: _field(record[column], key) for key, column in columns.items()}
    if "chosen" not in columns:
        values = {"conversation": values["messages"]}
    digest = hashlib.sha256(json.dumps(values, ensure_ascii=False, sort_keys=True).encode("utf-8")).hexdigest()[:16]
    return {"id": f"{digest}/{number}", **values}


def _records(file: Path, wanted: list[str]) -> Iterator[dict[str, Any]]:
    if file.suffix == ".parquet":
        try:
            opened = pyarrow.parquet.ParquetFile(file)
        except (pyarrow.ArrowInvalid, OSError) as error:
            raise InputError(f"{file}: not a whole parquet file ({str(error).splitlines()[0]})") from None
        missing = [column for column in wanted if column not in opened.schema_arrow.names]
        if missing:
            raise InputError(f"{file}: no column {missing}, it has {opened.schema_arrow.names}")
        for batch in opened.iter_batches():
            yield from batch.to_pylist()
        return
    if not file.exists():
        raise InputError(f"{file}: no such file")
    with open(file, encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                record = json.loads(line)
            except json.JSONDecodeError as error:
                raise InputError(f"{file}, line {number}: invalid JSON ({error})") from None
            missing = [column for column in wanted if column not in record]
            if missing:
                raise InputError(f"{file}, line {number}: no key {missing}, it has {sorted(record)}")
            yield record


def _field(value: Any, key: str) -> Any:
    """Return messages, or one message (`chosen`, `rejected`), with the keys and roles of our rows."""
    if key in ("chosen", "rejected"):
        if isinstance(value, str):
            return {"role": "assistant", "content": value}
        # Some sets give the whole conversation: the last message is the reply.
        return _message(value[-1]) if isinstance(value, list) and value else _message(value)
    return [_message(item) for item in value] if isinstance(value, list) else value


def _message(item: Any) -> Any:
    for role, content in MESSAGE_KEYS:
        if isinstance(item, dict) and role in item and content in item:
            return {"role": ROLE_NAMES.get(item[role], item[role]), "content": item[content]}
    return item
