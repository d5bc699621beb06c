"""Parquet made elsewhere: one reader for sources, chat rows and evaluation items.

    with open_parquet(path, name, ["text"]) as reader:
        reader.require_text("text")
        for batch in reader.batches():
            ...

Batches are bounded by bytes, whatever the row groups are. Strings arrive as `string` or
`large_string`, whatever the file has; their UTF-8 is checked, and so are page checksums where the
file has them. Every fault is an `InputError` of one line. docs/inputs.md says what is read.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from zagreus.data.columns import booleans, has_value, integers, lengths, strings
from zagreus.errors import InputError
from zagreus.losses import Losses
from zagreus.records import RowError

BATCH_BYTES = 4 * 2**20
# A row group of so many bytes is read at once; of a larger one few rows at a time.
GROUP_BYTES = 32 * 2**20
ROWS = 8192
CAUTIOUS_ROWS = 64
# Bytes of a row from which few rows at a time cost less than dictionaries, which hash every text.
LONG_TEXT = 256
NULL, EMPTY = "null text", "empty text"
MAGIC, ENCRYPTED = b"PAR1", b"PARE"
SHOWN = 20  # column names in a message
# What pyarrow raises for files that are damaged; the rest is ours.
DAMAGE = (pa.ArrowException, OSError, ValueError, MemoryError, OverflowError, IndexError, KeyError)


class Documents(NamedTuple):
    """Documents of a batch, none without text: their ids and texts (`string`)."""

    ids: pa.Array
    texts: pa.Array


@contextmanager
def open_parquet(
    path: Path,
    name: str,
    columns: Sequence[str] | None = None,
) -> Iterator[ParquetReader]:
    """Open a parquet file as a context.

    Args:
        path: the file; a link is followed.
        name: the file's name for messages.
        columns: the columns to read, in this order; None for all.

    Raises:
        InputError: missing, empty, truncated, encrypted or no parquet; no such column, two of them.
    """
    reader = ParquetReader(path, name, columns)
    try:
        yield reader
    finally:
        reader.close()


class ParquetReader:
    """An open file.

    Attributes:
        name: the file's name for messages.
        names: all columns of the file.
        columns: those that are read.
        rows: rows of the file.
    """

    def __init__(self, path: Path, name: str, columns: Sequence[str] | None) -> None:
        self.name = name
        self._path = path
        self._dictionary: pq.ParquetFile | None = None  # reads strings as dictionaries
        self._file = self._open()
        self.names: list[str] = self._file.schema_arrow.names
        metadata = self._file.metadata
        self.rows: int = metadata.num_rows
        groups = [metadata.row_group(group) for group in range(metadata.num_row_groups)]
        in_groups = sum(group.num_rows for group in groups)
        if in_groups != self.rows:
            self.close()
            problem = f"{in_groups} rows in its row groups, {self.rows} in its footer"
            raise InputError(f"{_plain_name(name)}: {problem}")
        self.columns = list(self.names if columns is None else columns)
        for column in self.columns:
            count = self.names.count(column)
            if count != 1:
                listed = ", ".join(map(_plain_name, self.names[:SHOWN]))
                more = "" if len(self.names) <= SHOWN else f" and {len(self.names) - SHOWN} more"
                what = f"{count or 'no'} column{'s' if count > 1 else ''} '{_plain_name(column)}'"
                self.close()
                raise InputError(f"{_plain_name(name)}: {what}, it has {listed}{more}")

    def close(self) -> None:
        """Close the file."""
        for file in (self._file, self._dictionary):
            if file is not None:
                file.close(force=True)

    def type_of(self, column: str) -> pa.DataType:
        """Return the type that a column has in batches: strings are `string` or `large_string`."""
        return _batch_type(self._file.schema_arrow.field(column).type)

    def require_text(self, column: str) -> None:
        """Raise `InputError` where a column holds no text; one without any value (null) is text."""
        kind = self.type_of(column)
        if not _is_string(kind):
            problem = f"column '{_plain_name(column)}' is of type {_one_line(kind)}"
            raise InputError(f"{_plain_name(self.name)}: {problem}, expected string")

    def batches(self, max_bytes: int = BATCH_BYTES) -> Iterator[pa.RecordBatch]:
        """Yield the rows of the columns in order, in batches of at most `max_bytes` or of one row.

        The bytes are those of string columns; rows of other columns are counted at their mean size.

        Raises:
            InputError: a row group that is damaged or holds invalid UTF-8; it is named.
        """
        metadata = self._file.metadata
        for group in range(metadata.num_row_groups):
            rows = 0
            for batch in self._group(group, max_bytes):
                rows += batch.num_rows
                yield batch
            if rows != metadata.row_group(group).num_rows:
                expected = metadata.row_group(group).num_rows
                self._refuse(group, f"{rows} rows, its metadata says {expected}")

    def _group(self, group: int, max_bytes: int) -> Iterator[pa.RecordBatch]:
        """Yield the batches of a row group."""
        try:
            file, rows, mean = self._plan(group)
            if not self.columns:
                return
            read = file.iter_batches(
                rows,
                row_groups=[group],
                columns=self.columns,
                use_threads=False,
            )
            held: list[pa.RecordBatch] = []
            size = 0
            for batch in read:
                for piece, bytes_ in _pieces(batch, self.columns, mean, max_bytes):
                    if held and size + bytes_ > max_bytes:
                        yield _joined(held)
                        held, size = [], 0
                    held.append(piece)
                    size += bytes_
            if held:
                yield _joined(held)
        except DAMAGE as error:
            self._refuse(group, _one_line(error))

    def _plan(self, group: int) -> tuple[pq.ParquetFile, int, int]:
        """Return how a row group is read: the file, rows at a time, mean bytes of a row.

        A dictionary holds a text once that many rows have: decoded, a small row group can have any
        size. So small row groups are read as dictionaries, which are cut by bytes, then decoded.
        """
        metadata = self._file.metadata.row_group(group)
        schema = self._file.schema_arrow
        column_names, strings, growing = set(self.columns), [], False
        size = 0
        for number in range(metadata.num_columns):
            chunk = metadata.column(number)
            path = chunk.path_in_schema
            if path not in column_names and path.split(".")[0] not in column_names:
                continue
            size += max(0, chunk.total_uncompressed_size)
            kind = schema.field(path).type if path in column_names else None
            flat = kind is not None and not pa.types.is_nested(kind)
            if flat and chunk.num_values != metadata.num_rows:
                problem = f"{chunk.num_values} values for {metadata.num_rows} rows"
                raise ValueError(f"column {path}: {problem}")
            if kind is not None and _is_string(kind):
                strings.append(path)
                growing |= "DELTA_BYTE_ARRAY" in chunk.encodings
            elif kind is None or not (_fixed(kind) or pa.types.is_dictionary(kind)):
                growing |= chunk.has_dictionary_page or "DELTA_BYTE_ARRAY" in chunk.encodings
        mean = size // max(1, metadata.num_rows)
        if size > GROUP_BYTES or mean >= LONG_TEXT or growing:
            return self._file, max(1, min(CAUTIOUS_ROWS, GROUP_BYTES // max(1, mean))), mean
        if self._dictionary is None:
            self._dictionary = self._open(strings)
        return self._dictionary, ROWS, mean

    def _open(self, dictionaries: Sequence[str] = ()) -> pq.ParquetFile:
        """Open the file; say what else it is where it is no parquet."""
        name = _plain_name(self.name)
        if self._path.exists() and not self._path.is_file():
            raise InputError(f"{name}: {what_is_wrong(self._path)}")
        try:
            # Read page by page: a column chunk takes no more memory than its largest page.
            return pq.ParquetFile(
                self._path,
                pre_buffer=False,
                buffer_size=2**20,
                read_dictionary=list(dictionaries),
                page_checksum_verification=True,
            )
        except DAMAGE as error:
            problem = what_is_wrong(self._path)
            raise InputError(f"{name}: {problem or _not_whole(error)}") from None

    def _refuse(self, group: int, problem: str) -> None:
        name = _plain_name(self.name)
        raise InputError(f"{name}: row group {group} cannot be read ({problem})") from None


def what_is_wrong(path: Path) -> str | None:
    """Return why a file cannot be opened as parquet, where its first and last bytes tell it."""
    try:
        if path.is_symlink() and not path.exists():
            return f"a link to {_plain_name(os.readlink(path))}, which does not exist"
        if path.is_dir():
            return "a folder, expected a parquet file"
        if path.exists() and not path.is_file():
            return "no regular file, expected a parquet file"
        size = path.stat().st_size
        with open(path, "rb") as opened:
            head = opened.read(64)
            opened.seek(max(0, size - 4))
            tail = opened.read(4)
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    if size == 0:
        return "not a whole parquet file (empty)"
    if ENCRYPTED in (head[:4], tail):
        return "an encrypted parquet file, expected one without encryption"
    if head.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the parquet file that it stands for"
    if head[:4] != MAGIC:
        return "not a whole parquet file (it does not begin with PAR1)"
    if tail != MAGIC:
        return "not a whole parquet file (it does not end with PAR1: cut off)"
    return None


def read_documents(
    path: Path,
    name: str,
    text_column: str,
    id_column: str | None,
    losses: Losses,
) -> Iterator[tuple[Documents, int]]:
    """Yield documents of a parquet file, with the rows that they were read from, batch by batch.

    Args:
        path: the file.
        name: the file's name for messages and for ids.
        text_column: the column of the text.
        id_column: the column of the document's name. Without one, and where it has no value (null,
            empty, NaN), the id is `NAME#ROW`, the row counted from 0.
        losses: counts the rows without text.

    Raises:
        InputError: as `open_parquet` and `ParquetReader.batches`; a text column of another type.
    """
    column_names = [text_column] if id_column in (None, text_column) else [text_column, id_column]
    with open_parquet(path, name, column_names) as reader:
        reader.require_text(text_column)
        start = 0
        for batch in reader.batches():
            texts = batch.column(0).cast(pa.string())
            numbers = np.arange(start, start + len(texts))
            start += len(texts)
            present, sizes = has_value(texts), lengths(texts)
            missing = {NULL: ~present, EMPTY: present & (sizes == 0)}
            _count(losses, name, numbers, missing)
            ids = _ids(batch.column(len(column_names) - 1) if id_column else None, name, numbers)
            if not (sizes > 0).all():
                keep = booleans(sizes > 0)
                texts, ids = texts.filter(keep), ids.filter(keep)
            yield Documents(ids, texts), batch.num_rows


def read_texts(
    path: Path,
    name: str,
    text_column: str,
    id_column: str | None,
) -> Iterator[tuple[str, str]]:
    """Yield `(id, text)` of a parquet file; rows without text are left out. As `read_documents`."""
    for documents, _ in read_documents(path, name, text_column, id_column, Losses()):
        yield from zip(documents.ids.to_pylist(), documents.texts.to_pylist(), strict=True)


def _count(losses: Losses, name: str, numbers: Any, missing: dict[str, Any]) -> None:
    """Count the rows without text by reason, and keep the first of them for messages."""
    first = []
    for reason, mask in missing.items():
        indices = np.flatnonzero(mask)
        if len(indices):
            losses.counts[reason] += len(indices)
            first.append((int(numbers[indices[0]]), reason))
    if first and losses.first is None:
        row, reason = min(first)
        losses.first = RowError(reason, f"{_plain_name(name)}: row {row} has {reason}")


def _ids(column: pa.Array | None, name: str, numbers: Any) -> pa.Array:
    """Return the ids of rows: the column's values as text, `NAME#ROW` where it has none."""
    if column is not None:
        column = _texts_of(column)
        named = lengths(column) > 0
        if named.all():
            return column
    count = len(numbers)
    parts = [strings(f"{name}#", count), integers(numbers).cast(pa.string()), strings("", count)]
    numbered = pc.binary_join_element_wise(*parts)
    return numbered if column is None else pc.if_else(booleans(named), column, numbered)


def _texts_of(column: pa.Array) -> pa.Array:
    """Return a column's values as `string`, as `str` writes them; NaN is no value."""
    kind = column.type
    if pa.types.is_string(kind):
        return column
    if pa.types.is_integer(kind) or pa.types.is_large_string(kind):
        return column.cast(pa.string())
    values = column.to_pylist()
    return pa.array([None if v is None or v != v else str(v) for v in values], pa.string())


def _pieces(
    batch: pa.RecordBatch,
    columns: Sequence[str],
    mean: int,
    max_bytes: int,
) -> Iterator[tuple[pa.RecordBatch, int]]:
    """Cut a batch into pieces of at most `max_bytes` or of one row, decode and check them."""
    arrays = [batch.column(batch.schema.get_field_index(column)) for column in columns]
    sizes = np.zeros(batch.num_rows, np.int64)
    for array in arrays:
        sizes += _sizes(array, mean)
    ends = np.cumsum(sizes)
    start = 0
    while start < batch.num_rows:
        before = int(ends[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + max_bytes, side="right")))
        decoded = [_decoded(array.slice(start, stop - start)) for array in arrays]
        for array in decoded:
            array.validate(full=True)
        yield pa.RecordBatch.from_arrays(decoded, list(columns)), int(ends[stop - 1]) - before
        start = stop


def _sizes(array: pa.Array, mean: int) -> Any:
    """Return bytes by row: exact for strings, `mean` for what is nested, 8 for the rest."""
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    if pa.types.is_dictionary(array.type):
        values = _sizes(array.dictionary, mean)
        if not len(values):
            return np.zeros(len(array), np.int64)
        codes = array.indices.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
        if len(codes) and not (int(codes.min()) >= 0 and int(codes.max()) < len(values)):
            raise ValueError("an index outside of the dictionary")
        return values[codes]
    kind = array.type
    if pa.types.is_string_view(kind):
        array = array.cast(pa.large_string())
    if _is_binary(array.type):
        return lengths(array)
    return np.full(len(array), mean if pa.types.is_nested(kind) else 8, np.int64)


def _decoded(array: pa.Array) -> pa.Array:
    """Return an array without extension type, dictionary or view; without values as strings."""
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    kind = _batch_type(array.type)
    return array if array.type == kind else array.cast(kind)


def _batch_type(kind: pa.DataType) -> pa.DataType:
    """Return the type in batches of a column that has a type in the file."""
    if isinstance(kind, pa.BaseExtensionType):
        kind = kind.storage_type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_null(kind):
        return pa.string()
    return pa.large_string() if pa.types.is_string_view(kind) else kind


def _is_string(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _is_binary(kind: pa.DataType) -> bool:
    types = pa.types
    tests = (types.is_string, types.is_large_string, types.is_binary, types.is_large_binary)
    return any(test(kind) for test in tests)


def _fixed(kind: pa.DataType) -> bool:
    """Return whether a value has the same size in any encoding."""
    return pa.types.is_primitive(kind) or pa.types.is_null(kind) or pa.types.is_decimal(kind)


def _joined(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    return batches[0] if len(batches) == 1 else pa.concat_batches(batches)


def _not_whole(error: BaseException) -> str:
    return f"not a whole parquet file ({_one_line(error)})"


def _plain_name(name: str) -> str:
    """Return a name on one line, whatever signs it has."""
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in name)


def _one_line(error: object) -> str:
    lines = str(error).splitlines()
    return _plain_name(lines[0])[:300] if lines else type(error).__name__
