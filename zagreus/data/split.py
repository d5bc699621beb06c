"""Documents on their way to parquet: which of them a task takes, and which are held out."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from zagreus.atomic import atomic_file
from zagreus.data.columns import booleans, lengths
from zagreus.data.heldout import held_apart_all
from zagreus.data.words import count_words

SCHEMA = pa.schema([("id", pa.string()), ("text", pa.string())])
# A row group is what a process of `tokenize` takes at a time: small, so that none of them is left
# without work at the end.
ROW_GROUP_BYTES = 4 * 2**20
ROW_GROUP_ROWS = 20_000
# Documents that are made into columns at a time.
BATCH_BYTES = 4 * 2**20
BATCH_ROWS = 10_000


class Document(NamedTuple):
    """A text, its name, and the part of the name that decides whether it is held out."""

    key: str
    id: str
    text: str


@dataclass
class Counts:
    """What went where. Bytes are bytes of UTF-8, words what stands between white space."""

    documents: int
    text_bytes: int
    words: int
    heldout_documents: int
    heldout_text_bytes: int


class Batch(NamedTuple):
    """Documents in columns of type `string`, none of them null."""

    keys: pa.Array
    ids: pa.Array
    texts: pa.Array


class TextWriter:
    """Writes documents in row groups of bounded size, and counts them as they are written.

    Attributes:
        documents: how many were written.
        text_bytes: their bytes of UTF-8.
        words: their words.
    """

    def __init__(self, parquet: pq.ParquetWriter) -> None:
        self.parquet = parquet
        self.documents = self.text_bytes = self.words = 0
        self._ids: list[pa.Array] = []
        self._texts: list[pa.Array] = []
        self._rows = self._bytes = 0

    def add(self, ids: pa.Array, texts: pa.Array) -> None:
        """Take documents in; `flush` writes the last ones.

        Args:
            ids: their names, `string`.
            texts: their texts, `string`.
        """
        self.words += count_words(texts)
        ends = np.cumsum(lengths(texts))
        start = 0
        while start < len(texts):
            before = int(ends[start - 1]) if start else 0
            # A row group is full with the document that reaches the bytes or the rows.
            full = int(np.searchsorted(ends, before + ROW_GROUP_BYTES - self._bytes)) + 1
            stop = min(full, start + ROW_GROUP_ROWS - self._rows, len(texts))
            self._ids.append(ids.slice(start, stop - start))
            self._texts.append(texts.slice(start, stop - start))
            self._rows += stop - start
            self._bytes += int(ends[stop - 1]) - before
            if self._bytes >= ROW_GROUP_BYTES or self._rows >= ROW_GROUP_ROWS:
                self.flush()
            start = stop

    def flush(self) -> None:
        """Write what was taken in."""
        if self._rows:
            columns = [pa.concat_arrays(self._ids), pa.concat_arrays(self._texts)]
            self.parquet.write_table(pa.table(columns, schema=SCHEMA))
        self.documents += self._rows
        self.text_bytes += self._bytes
        self._ids, self._texts, self._rows, self._bytes = [], [], 0, 0


def write_split(
    documents: Iterable[Document], training: Path, heldout: Path, share: float
) -> Counts:
    """Write documents one by one; as `write_batches`."""
    return write_batches(_columns(documents), training, heldout, share)


def write_batches(batches: Iterable[Batch], training: Path, heldout: Path, share: float) -> Counts:
    """Write documents to two parquet files (`id: string, text: string`).

    Those held out, and the others. Both appear whole.

    Args:
        batches: the documents; their order is kept.
        training: the file of the documents to train on.
        heldout: the file of the documents held out.
        share: the share held out, as in `held_apart`.
    """
    with atomic_file(training) as partial, atomic_file(heldout) as partial_heldout:
        with (
            pq.ParquetWriter(partial, SCHEMA, compression="zstd") as parquet,
            pq.ParquetWriter(partial_heldout, SCHEMA, compression="zstd") as parquet_heldout,
        ):
            train, apart = TextWriter(parquet), TextWriter(parquet_heldout)
            for batch in batches:
                held = held_apart_all(batch.keys, share) if share else None
                if held is None or not held.any():
                    train.add(batch.ids, batch.texts)
                    continue
                for writer, mask in ((train, booleans(~held)), (apart, booleans(held))):
                    writer.add(batch.ids.filter(mask), batch.texts.filter(mask))
            train.flush()
            apart.flush()
    return Counts(train.documents, train.text_bytes, train.words, apart.documents, apart.text_bytes)


def _columns(documents: Iterable[Document]) -> Iterator[Batch]:
    """Yield documents in columns, about `BATCH_BYTES` at a time."""
    waiting: list[Document] = []
    size = 0
    for document in documents:
        waiting.append(document)
        size += len(document.text)
        if size >= BATCH_BYTES or len(waiting) >= BATCH_ROWS:
            yield Batch(*(pa.array(column, pa.string()) for column in zip(*waiting, strict=True)))
            waiting, size = [], 0
    if waiting:
        yield Batch(*(pa.array(column, pa.string()) for column in zip(*waiting, strict=True)))


def select(
    texts: Iterable[tuple[str, str]], source: str, task: int, tasks: int, limit: int | None
) -> tuple[list[Document], dict[str, int]]:
    """Return a task's documents of a whole source, mixed, and how many of the source's were
    dropped.

    Blank texts and repetitions of a text are dropped. The order is that of a hash of the keys:
    documents of one kind do not stand together, aligned sources have the same order, and a limit
    takes a fair sample. The hash is another one than that of `held_apart`, or a limit would take
    the held-out documents first.

    Args:
        texts: `(key, text)` of the whole source.
        source: the source's name; a document's id is `SOURCE:KEY`.
        task: which task, from 0.
        tasks: how many tasks there are; task k takes the documents k, k + tasks, ... of the mixed
            order.
        limit: how many documents of the source are taken at most, over all tasks; None for all.
    """
    dropped = {"blank": 0, "repeated": 0}
    seen: set[bytes] = set()
    kept: list[tuple[bytes, Document]] = []
    for key, text in texts:
        digest = hashlib.sha256(text.encode("utf-8")).digest()
        if not text.strip():
            dropped["blank"] += 1
        elif digest in seen:
            dropped["repeated"] += 1
        else:
            seen.add(digest)
            kept.append(
                (
                    hashlib.sha256(f"order:{key}".encode()).digest(),
                    Document(key, f"{source}:{key}", text),
                )
            )
    kept.sort(key=lambda pair: pair[0])
    return [document for _, document in kept[:limit][task::tasks]], dropped
