"""Documents held out from training, for bits per byte, with the cost of each under a byte-unigram
model.

The unigram model is the trivial policy that bits per byte is compared with: it knows how often each
byte occurs in the training text of the same sources, and nothing else. Every byte is counted once
more than it occurs (add-one), so that none is impossible.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy
import pyarrow.parquet

from zagreus.errors import InputError
from zagreus.evaluation.items import Item, read_table
from zagreus.manifest import read_manifest

# A unigram model has 256 parameters: this much text of each task fixes them to four digits.
UNIGRAM_BYTES = 16_000_000


def heldout_documents(manifests: Sequence[Path]) -> list[Item]:
    """Return the documents held out beside the given source manifests, as `id, text`, empty ones
    left out.
    """
    documents: list[Item] = []
    for manifest in manifests:
        read_manifest(manifest, "source")
        documents += [
            row
            for row in read_table(_beside(manifest, ".heldout.parquet"), ("id", "text")).to_pylist()
            if (row["text"] or "").strip()
        ]
    if not documents:
        raise InputError(
            f"{', '.join(map(str, manifests))}: no document is held out; raise the source's "
            "'heldout' share"
        )
    return documents


def byte_counts(manifests: Sequence[Path]) -> numpy.ndarray:
    """Return how often each byte occurs in the training text beside the manifests, int64 [256].

    Whole row groups are read until UNIGRAM_BYTES of a task are counted.
    """
    counts = numpy.zeros(256, dtype=numpy.int64)
    for manifest in manifests:
        path, counted = _beside(manifest, ".parquet"), 0
        read_table(path, ())
        with pyarrow.parquet.ParquetFile(path) as opened:
            for batch in opened.iter_batches(batch_size=1024, columns=["text"]):
                text = "".join(batch.column("text").to_pylist()).encode("utf-8")
                counts += numpy.bincount(numpy.frombuffer(text, dtype=numpy.uint8), minlength=256)
                counted += len(text)
                if counted >= UNIGRAM_BYTES:
                    break
    return counts


def unigram_bits(counts: numpy.ndarray, text: bytes) -> float:
    """Return -sum of log2 p(byte) over the text, with p = (count + 1) / (total + 256)."""
    costs = -numpy.log2((counts + 1) / (counts.sum() + 256))
    return float(costs[numpy.frombuffer(text, dtype=numpy.uint8)].sum())


def cut(text: str, max_bytes: int | None) -> str:
    """Return the longest beginning of the text that is at most `max_bytes` long in UTF-8."""
    return (
        text
        if max_bytes is None
        else text.encode("utf-8")[:max_bytes].decode("utf-8", errors="ignore")
    )


def heldout_items(
    manifests: Sequence[Path], max_bytes: int | None, min_bytes: int = 0
) -> list[Item]:
    """Return one item per document held out: `id, text, bytes, unigram_bits`.

    Documents of fewer than `min_bytes` bytes are left out.

    Raises:
        InputError: no document is as long.
    """
    counts = byte_counts(manifests)
    items = []
    longest = 0
    for document in heldout_documents(manifests):
        length = len(document["text"].encode("utf-8"))
        longest = max(longest, length)
        if length < min_bytes:
            continue
        text = cut(document["text"], max_bytes)
        encoded = text.encode("utf-8")
        items.append(
            {
                "id": document["id"],
                "text": text,
                "bytes": len(encoded),
                "unigram_bits": unigram_bits(counts, encoded),
            }
        )
    if not items:
        raise InputError(
            f"{', '.join(map(str, manifests))}: the longest document held out has {longest:,} "
            f"bytes, expected one of {min_bytes:,} or more ('min_bytes')"
        )
    return items


def _beside(manifest: Path, suffix: str) -> Path:
    return manifest.with_name(manifest.name.removesuffix(".json") + suffix)
