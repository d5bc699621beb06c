"""Parquet files of others: read in batches, bad ones refused in one line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from zagreus.errors import InputError

BATCH_ROWS = 1000


def read_texts(path: Path, name: str, text_column: str, id_column: str | None) -> Iterator[tuple[str, str]]:
    """Yield `(id, text)` of a parquet file, a batch at a time; rows without text (null or empty) are left out.

    Args:
        path: the file.
        name: the file's name for messages and for ids.
        text_column: the column of the text: string, large_string or a dictionary of them.
        id_column: the column of the document's name; without one, the id is `NAME#ROW`, the row counted from 0.

    Raises:
        InputError: no parquet, truncated or damaged, no such column, a column of another type, invalid UTF-8.
    """
    try:
        parquet = pq.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{name}: not a whole parquet file ({_first_line(error)})") from None
    with parquet:
        columns = [text_column] if id_column is None else [text_column, id_column]
        for column in columns:
            if column not in parquet.schema_arrow.names:
                raise InputError(f"{name}: no column '{column}', it has {', '.join(parquet.schema_arrow.names)}")
        kind = parquet.schema_arrow.field(text_column).type
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
            raise InputError(f"{name}: column '{text_column}' is of type {kind}, expected string")
        row = 0
        for group in range(parquet.num_row_groups):
            try:
                for batch in parquet.iter_batches(BATCH_ROWS, row_groups=[group], columns=columns):
                    texts = batch.column(text_column).to_pylist()
                    ids = [f"{name}#{row + i}" for i in range(len(texts))] if id_column is None else batch.column(id_column).to_pylist()
                    row += len(texts)
                    yield from ((str(identity), text) for identity, text in zip(ids, texts, strict=True) if text)
            except (pa.ArrowInvalid, OSError, UnicodeDecodeError) as error:
                raise InputError(f"{name}: row group {group} cannot be read ({_first_line(error)})") from None


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
