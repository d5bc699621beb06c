"""Near-duplicates: evaluation items that a training text holds in other words.

The n-grams of zagreus/data/contamination.py find an item word for word. Here a text may have
another order of words, and other words in places. What counts is the share of a passage's character
n-grams that stand within a window of the training text, about as long as the passage (containment;
A. Z. Broder, On the resemblance and containment of documents, 1997).

MinHash finds the pairs that are worth a comparison: datatrove's hash functions over the n-grams of
a window, in BUCKETS of HASHES each. A pair that shares all hashes of one bucket is compared
exactly. The windows of one length overlap by three quarters. The minimum of a window is that of its
four quarters, so that each character is hashed once.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy
import pyarrow
from datatrove.pipeline.dedup import MinhashDedupSignature
from datatrove.pipeline.dedup.minhash import MinhashConfig

from zagreus.data.contamination import SHORTEST, TEMPLATE_ITEMS, Item, NGrams, words_of

# Characters of an n-gram.
LETTERS = 5
# A window and a passage of it of which half the n-grams agree share a bucket with a probability of
# 0.84, of which a third, with 0.29.
BUCKETS, HASHES = 28, 4
# Lengths of windows, in characters; a passage is looked for in the shortest that holds it. Of a
# longer passage the beginning is.
WINDOWS = (64, 92, 128, 180, 256, 360, 512, 724, 1024)
QUARTERS = 4
# Characters of a document that are hashed together: about 50 MB.
PART = 50_000

ROWS = pyarrow.schema(
    [
        ("dataset", pyarrow.string()),
        ("split", pyarrow.string()),
        ("row", pyarrow.int64()),
        ("item", pyarrow.string()),
        ("similarity", pyarrow.float64()),
        ("documents", pyarrow.int64()),
        ("example", pyarrow.string()),
    ]
)


def letters_of(text: str) -> str:
    """Return the words of a text, lower case and without punctuation, with a space between."""
    return " ".join(words_of(text))


class Hasher:
    """Character n-grams and their MinHash, by datatrove's permutations."""

    def __init__(self) -> None:
        config = MinhashConfig(num_buckets=BUCKETS, hashes_per_bucket=HASHES)
        with tempfile.TemporaryDirectory() as unused:  # no signature is written
            self.library = MinhashDedupSignature(unused, config)
        self._grams = NGrams()

    def ngrams(self, letters: str) -> numpy.ndarray:
        """Return the hashes of the character n-grams, uint64 [len(letters) - LETTERS + 1]."""
        codes = numpy.frombuffer(letters.encode("utf-32-le"), dtype=numpy.uint32)
        # Codes are small numbers: each becomes a number of 64 bits (the finalizer of SplitMix64).
        mixed = codes.astype(numpy.uint64) * numpy.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> numpy.uint64(30))) * numpy.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> numpy.uint64(27))) * numpy.uint64(0x94D049BB133111EB)
        return self._grams.of(self._grams.prefix(mixed), LETTERS)

    def hashes(self, ngrams: numpy.ndarray) -> numpy.ndarray:
        """Return the n-grams under every permutation, uint64 [len(ngrams), BUCKETS * HASHES]."""
        factors, terms = self.library.parameters
        return (ngrams[:, None] * factors + terms) % numpy.uint64((1 << 61) - 1)

    @staticmethod
    def buckets(minima: numpy.ndarray) -> numpy.ndarray:
        """Return one number for each bucket of each signature, uint64 [signatures, BUCKETS]."""
        parts = minima.reshape(len(minima), BUCKETS, HASHES)
        mixed = numpy.arange(BUCKETS, dtype=numpy.uint64)[None, :].repeat(len(minima), axis=0)
        for index in range(HASHES):
            mixed = (mixed ^ parts[:, :, index]) * numpy.uint64(0x9E3779B97F4A7C15)
            mixed ^= mixed >> numpy.uint64(29)
        return mixed


@dataclass(frozen=True)
class Passage:
    """A passage of an item: its n-grams, each once."""

    item: int
    ngrams: numpy.ndarray


class PassageTable:
    """The passages of items by the length of window in which they are looked for."""

    def __init__(self, items: Sequence[Item], hasher: Hasher) -> None:
        self.items = items
        self.checked = numpy.zeros(len(items), dtype=bool)
        passages: dict[int, list[Passage]] = {}
        signatures: dict[int, list[numpy.ndarray]] = {}
        for number, texts in enumerate(_texts_by_item(items)):
            for letters in texts:
                cut = letters[: WINDOWS[-1]]
                window = next(length for length in WINDOWS if len(cut) <= length)
                ngrams = numpy.unique(hasher.ngrams(cut))
                passages.setdefault(window, []).append(Passage(number, ngrams))
                minima = hasher.hashes(ngrams).min(axis=0, keepdims=True)
                signatures.setdefault(window, []).append(hasher.buckets(minima)[0])
                self.checked[number] = True
        self.tables = {
            window: _Buckets(passages[window], numpy.stack(signatures[window]))
            for window in sorted(passages)
        }


class _Buckets:
    """The passages of one length of window by the buckets of their signatures."""

    def __init__(self, passages: list[Passage], signatures: numpy.ndarray) -> None:
        self.passages = passages
        owners = numpy.arange(len(passages)).repeat(BUCKETS)
        order = signatures.ravel().argsort(kind="stable")
        self._hashes, self._owners = signatures.ravel()[order], owners[order]

    def candidates(self, signatures: numpy.ndarray) -> Iterator[tuple[int, Passage]]:
        """Yield (window, passage) for each pair that shares a bucket, each once."""
        flat = signatures.ravel()
        low = numpy.searchsorted(self._hashes, flat, side="left")
        high = numpy.searchsorted(self._hashes, flat, side="right")
        pairs = {
            (index // BUCKETS, int(owner))
            for index in numpy.flatnonzero(high > low).tolist()
            for owner in self._owners[low[index] : high[index]]
        }
        yield from ((window, self.passages[owner]) for window, owner in sorted(pairs))


def _texts_by_item(items: Sequence[Item]) -> Iterator[list[str]]:
    """Yield the passages of each item: its texts and all of them in a row.

    A text that more than TEMPLATE_ITEMS items of a data set have is a template. A passage of fewer
    than SHORTEST words says nothing.
    """
    texts = [[letters_of(text) for text in item.texts] for item in items]
    shared = Counter(
        (item.dataset, text) for item, own in zip(items, texts, strict=True) for text in set(own)
    )
    for item, own in zip(items, texts, strict=True):
        kept = [text for text in own if shared[item.dataset, text] <= TEMPLATE_ITEMS]
        passages = dict.fromkeys([*kept, " ".join(kept)])
        yield [text for text in passages if text.count(" ") + 1 >= SHORTEST]


class NearScan:
    """Looks training text up in a table of passages, document by document."""

    def __init__(self, table: PassageTable, hasher: Hasher, threshold: float) -> None:
        """Look for passages of which at least a share of `threshold` stands in a window."""
        self.table = table
        self.documents = 0
        self.words = 0
        self._hasher, self._threshold = hasher, threshold
        self._similarity = numpy.zeros(len(table.items))
        self._counts = numpy.zeros(len(table.items), dtype=numpy.int64)
        self._example: dict[int, str] = {}

    def read(self, documents: Iterable[tuple[str, str]]) -> None:
        """Look up documents, `(id, text)`."""
        for name, text in documents:
            words = words_of(text)
            self.documents += 1
            self.words += len(words)
            best: dict[int, float] = {}
            for part in _parts(" ".join(words)):
                for item, share in self._look(part):
                    best[item] = max(share, best.get(item, 0.0))
            for item, share in best.items():
                self._counts[item] += 1
                if share > self._similarity[item]:
                    self._similarity[item] = share
                    self._example[item] = name

    def _look(self, letters: str) -> Iterator[tuple[int, float]]:
        """Yield (item, share of its n-grams) for each passage that a part of a document holds."""
        ngrams = self._hasher.ngrams(letters)
        if not len(ngrams) or not self.table.tables:
            return
        hashes = self._hasher.hashes(ngrams)
        for length, buckets in self.table.tables.items():
            step = length // QUARTERS
            starts = numpy.arange(0, len(ngrams), step)
            quarters = numpy.minimum.reduceat(hashes, starts, axis=0)
            windows = max(1, len(quarters) - QUARTERS + 1)
            minima = quarters[:windows].copy()
            for further in range(1, min(QUARTERS, len(quarters))):
                numpy.minimum(minima, quarters[further : further + windows], out=minima)
            for window, passage in buckets.candidates(self._hasher.buckets(minima)):
                within = ngrams[window * step : (window + QUARTERS) * step]
                share = float(numpy.isin(passage.ngrams, within).mean())
                if share >= self._threshold:
                    yield passage.item, share

    def rows(self) -> list[dict[str, Any]]:
        """Return a row, in the columns of ROWS, for each item that some document holds.

        `similarity` is the largest share of a passage's n-grams, `example` the document with it.
        """
        return [
            {
                "dataset": item.dataset,
                "split": item.split,
                "row": item.row,
                "item": item.identity,
                "similarity": round(float(self._similarity[number]), 4),
                "documents": int(self._counts[number]),
                "example": self._example[number],
            }
            for number, item in enumerate(self.table.items)
            if self._counts[number]
        ]


def _parts(letters: str) -> Iterator[str]:
    """Yield a text in parts that overlap by the longest window."""
    for start in range(0, max(1, len(letters)), PART):
        yield letters[start : start + PART + WINDOWS[-1]]
