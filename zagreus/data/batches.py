"""Texts of a parquet file in batches of bounded size, and a sample of its documents."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from zagreus.errors import InputError

# About 250,000 tokens. Larger ones are slower: 30.8, 28.3, 25.7 million tokens a CPU second with
# 500, 2,000 and 10,000 documents a batch.
BATCH_BYTES = 2**20
BATCH_ROWS = 500
# Rows of a batch where a row group is so large that a few long documents in one batch could pass
# the limit.
CAUTIOUS_ROWS = 8
# Of each job: enough that a wrong engine shows, little enough that the reference takes a tenth of a
# second.
SAMPLE_BYTES = 2**18
SAMPLE_DOCUMENTS = 64
SAMPLE_GROUPS = 16


class Batch(NamedTuple):
    """Texts of a row group, none null or empty, and their bytes of UTF-8."""

    texts: pa.Array
    bytes: int


def open_parquet(path: Path, documents: int) -> pq.ParquetFile:
    """Open a task's text, `id, text`.

    Raises:
        InputError: not a whole parquet file, other columns, a text column that is not text, another
            number of rows than `documents`.
    """
    try:
        # Read page by page: a column chunk of any size takes no more memory than its largest page.
        parquet = pq.ParquetFile(path, pre_buffer=False, buffer_size=BATCH_BYTES)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(
            f"{path}: not a whole parquet file ({str(error).splitlines()[0]})"
        ) from None
    schema = parquet.schema_arrow
    if schema.names != ["id", "text"]:
        raise InputError(f"{path}: columns {', '.join(schema.names)}, expected id, text")
    kind = schema.field("text").type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise InputError(f"{path}: column 'text' is of type {kind}, expected string")
    if parquet.metadata.num_rows != documents:
        raise InputError(
            f"{path}: {parquet.metadata.num_rows} documents, its manifest says {documents}"
        )
    return parquet


def read_group(
    parquet: pq.ParquetFile, path: Path, group: int, memory: int, longest: int
) -> Iterator[Batch]:
    """Yield the texts of a row group in order, about `BATCH_BYTES` at a time.

    Args:
        parquet: the open file.
        path: its name, for messages.
        group: which row group.
        memory: bytes that what is read may take.
        longest: bytes that one document may have.

    Raises:
        InputError: a row group that is damaged, a document that is longer; file and row group are
            named.
    """
    column = parquet.metadata.row_group(group).column(1)
    if column.num_values == 0:
        return
    mean = max(1, column.total_uncompressed_size // column.num_values)
    rows = max(1, min(BATCH_ROWS, BATCH_BYTES // mean))
    if column.total_uncompressed_size > memory:
        rows = min(rows, CAUTIOUS_ROWS)
    with naming(path, group):
        for batch in parquet.iter_batches(
            rows, row_groups=[group], columns=["text"], use_threads=False
        ):
            for texts, size in _cut(_plain(batch.column(0))):
                length = pc.max(pc.binary_length(texts)).as_py() if size > longest else 0
                if length > longest:
                    raise InputError(
                        f"{path}: row group {group} has a document of {length / 1e6:.0f} MB, at "
                        f"most {longest / 1e6:.0f} MB fit"
                        " into the memory of this job; give the rule more mem_mb, or leave the "
                        "document out"
                    )
                yield Batch(texts, size)


@contextmanager
def naming(path: Path, group: int) -> Iterator[None]:
    """Turn what a damaged row group raises into one line that names it."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: row group {group} holds text that is not UTF-8 ({error.reason})"
        ) from None
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            f"{path}: row group {group} cannot be read ({str(error).splitlines()[0]})"
        ) from None


def sample(parquet: pq.ParquetFile, path: Path) -> list[tuple[str, str]]:
    """Return some documents, `(id, text)`, from row groups all over the file.

    The same ones every time.

    Raises:
        InputError: a row group that is damaged; it is named.
    """
    documents: list[tuple[str, str]] = []
    size = 0
    filled = [
        group
        for group in range(parquet.num_row_groups)
        if parquet.metadata.row_group(group).num_rows
    ]
    if not filled:
        return documents
    groups = sorted(
        {filled[int(index)] for index in np.linspace(0, len(filled) - 1, SAMPLE_GROUPS)}
    )
    for group in groups:
        rows = SAMPLE_DOCUMENTS // len(groups)
        with naming(path, group):
            batch = next(parquet.iter_batches(rows, row_groups=[group], use_threads=False))
            ids, texts = batch.column(0).to_pylist(), batch.column(1).to_pylist()
        for identity, text in zip(ids, texts, strict=True):
            # One document at least, so that a file of long ones has a sample too.
            if text and (size + len(text) <= SAMPLE_BYTES or not documents):
                documents.append((str(identity), text))
                size += len(text)
    return documents


def _plain(texts: pa.Array) -> pa.Array:
    """Return the texts without dictionary, nulls and empty ones, as datatrove's reader leaves them
    out.
    """
    if pa.types.is_dictionary(texts.type):
        texts = texts.dictionary_decode()
    lengths = pc.binary_length(texts)
    if lengths.null_count or pc.min(lengths).as_py() == 0:
        texts = texts.filter(pc.greater(lengths, 0))
    return texts


def _cut(texts: pa.Array) -> Iterator[tuple[pa.Array, int]]:
    """Cut a batch that long documents made too large; most are one piece.

    Yield the pieces and their bytes.
    """
    if len(texts) == 0:
        return
    lengths = pc.binary_length(texts)
    total = pc.sum(lengths).as_py()
    if total <= 4 * BATCH_BYTES:
        yield texts, total
        return
    start, size = 0, 0
    for index, length in enumerate(lengths.to_pylist()):
        if size and size + length > BATCH_BYTES:
            yield texts.slice(start, index - start), size
            start, size = index, 0
        size += length
    yield texts.slice(start), size
