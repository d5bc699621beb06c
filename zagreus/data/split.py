"""Documents on their way to parquet: which of them a task takes, and which are held apart."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from zagreus.atomic import atomic_file
from zagreus.data.heldout import held_apart

SCHEMA = pa.schema([("id", pa.string()), ("text", pa.string())])
# A row group is what a process of `tokenize` takes at a time: small, so that none of them is left without work at the end.
ROW_GROUP_BYTES = 4 * 2**20
ROW_GROUP_ROWS = 20_000


class Document(NamedTuple):
    """A text, its name, and the part of the name that decides whether it is held apart."""

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


@dataclass
class TextWriter:
    """Writes documents in row groups of bounded size, and counts them as they are written."""

    parquet: pq.ParquetWriter
    documents: int = 0
    text_bytes: int = 0
    words: int = 0
    ids: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    bytes: int = 0

    def add(self, identity: str, text: str) -> None:
        """Take a document in; `flush` writes the last ones."""
        self.ids.append(identity)
        self.texts.append(text)
        self.bytes += len(text.encode("utf-8"))
        self.words += len(text.split())
        if self.bytes >= ROW_GROUP_BYTES or len(self.ids) >= ROW_GROUP_ROWS:
            self.flush()

    def flush(self) -> None:
        """Write what was taken in."""
        if self.ids:
            self.parquet.write_table(pa.table([pa.array(self.ids, pa.string()), pa.array(self.texts, pa.string())], schema=SCHEMA))
        self.documents += len(self.ids)
        self.text_bytes += self.bytes
        self.ids, self.texts, self.bytes = [], [], 0


def write_split(documents: Iterable[Document], training: Path, heldout: Path, share: float) -> Counts:
    """Write documents to two parquet files (`id: string, text: string`): those held apart, and the others. Both appear whole.

    Args:
        documents: the documents; their order is kept.
        training: the file of the documents to train on.
        heldout: the file of the documents held apart.
        share: the share held apart, as in `held_apart`.
    """
    with atomic_file(training) as partial, atomic_file(heldout) as partial_heldout:
        with (
            pq.ParquetWriter(partial, SCHEMA, compression="zstd") as parquet,
            pq.ParquetWriter(partial_heldout, SCHEMA, compression="zstd") as parquet_heldout,
        ):
            train, apart = TextWriter(parquet), TextWriter(parquet_heldout)
            for document in documents:
                (apart if held_apart(document.key, share) else train).add(document.id, document.text)
            train.flush()
            apart.flush()
    return Counts(train.documents, train.text_bytes, train.words, apart.documents, apart.text_bytes)


def select(
    texts: Iterable[tuple[str, str]], source: str, task: int, tasks: int, limit: int | None
) -> tuple[list[Document], dict[str, int]]:
    """Return a task's documents of a whole source, mixed, and how many of the source's were dropped.

    Blank texts and repetitions of a text are dropped. The order is that of a hash of the keys: documents of one kind do not
    stand together, aligned sources have the same order, and a limit takes a fair sample. The hash is another one than that
    of `held_apart`, or a limit would take the held-apart documents first.

    Args:
        texts: `(key, text)` of the whole source.
        source: the source's name; a document's id is `SOURCE:KEY`.
        task: which task, from 0.
        tasks: how many tasks there are; task k takes the documents k, k + tasks, ... of the mixed order.
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
            kept.append((hashlib.sha256(f"order:{key}".encode()).digest(), Document(key, f"{source}:{key}", text)))
    kept.sort(key=lambda pair: pair[0])
    return [document for _, document in kept[:limit][task::tasks]], dropped
