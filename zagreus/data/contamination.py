"""Overlap between training text and evaluation items.

Which n-grams of the items stand in the text, word for word.

An n-gram is 13 words in a row, lower case, without punctuation, as in T. B. Brown et al., Language
Models are Few-Shot Learners (2020), appendix C, which has it from there on in most reports. Words,
not tokens: the same text overlaps whatever the tokenizer, and white space, case and punctuation
hide nothing. A shorter text is one n-gram, down to 8 words (the least that the same source allows);
what is shorter yet says nothing, since everyone writes it, and counts as not checked.

Hashes have 64 bits and are made for a whole batch of documents at a time: with w the words' hashes,
b an odd number and everything modulo 2^64, P[i] = sum of w[j] b^j for j < i, and the n-gram at i
has (P[i+n] - P[i]) b^-i.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy
import pyarrow
import pyarrow.parquet

from zagreus.errors import InputError

LONGEST, SHORTEST = 13, 8
# A phrase that more items of a data set than this share is its template (a system prompt, "which of
# the following ..."), not an item.
TEMPLATE_ITEMS = 10
# Words are gathered from documents up to this many, then looked up together: about 200 MB.
BATCH_WORDS = 1_000_000
# A document with more characters is cut, its parts overlapping by LONGEST - 1 words.
LONG_DOCUMENT = 4_000_000
# Splits that give examples for few-shot prompts and are scored only where there is nothing else
# (IFEval has but a `train`).
EXAMPLES = ("train", "dev")

# Columns of the data sets in use that hold no text of the item.
NO_TEXT = {
    "id",
    "split",
    "document",
    "label",
    "answerKey",
    "role",
    "language",
    "tool",
    "subject",
    "source_id",
    "split_type",
    "key",
    "kwargs",
}
NO_TEXT |= {"instruction_id_list", "activity_label"}

_WORD = re.compile(r"[^\W_]+")
_BASE = 0x9E3779B97F4A7C15
_INVERSE = pow(_BASE, -1, 2**64)

ROWS = pyarrow.schema(
    [
        ("dataset", pyarrow.string()),
        ("split", pyarrow.string()),
        ("row", pyarrow.int64()),
        ("item", pyarrow.string()),
        ("ngrams", pyarrow.int64()),
        ("matched", pyarrow.int64()),
        ("documents", pyarrow.int64()),
        ("example", pyarrow.string()),
    ]
)


class WordHashes(dict[str, int]):
    """The 64-bit hash of each word met.

    It begins anew at a million words, so that it stays small whatever the text.
    """

    def __missing__(self, word: str) -> int:
        if len(self) >= 1_000_000:
            self.clear()
        value = int.from_bytes(
            hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little"
        )
        self[word] = value
        return value

    def of(self, words: Sequence[str]) -> numpy.ndarray:
        """Return the hashes of words, uint64 [len(words)]."""
        return numpy.fromiter((self[word] for word in words), numpy.uint64, len(words))


def words_of(text: str) -> list[str]:
    """Return the words of a text.

    Runs of letters and digits, lower case, in Unicode's compatibility form.
    """
    return _WORD.findall(unicodedata.normalize("NFKC", text).lower())


def powers(number: int, count: int) -> numpy.ndarray:
    """Return number^0 ... number^(count - 1) modulo 2^64, uint64 [count]."""
    factors = numpy.full(count, number, dtype=numpy.uint64)
    factors[:1] = 1
    return numpy.cumprod(factors, dtype=numpy.uint64)


class NGrams:
    """Hashes of the n-grams of arrays of words up to `BATCH_WORDS` or so.

    The powers are made once.
    """

    def __init__(self) -> None:
        self.up, self.down = powers(_BASE, 1), powers(_INVERSE, 1)

    def prefix(self, words: numpy.ndarray) -> numpy.ndarray:
        """Return P, uint64 [len(words) + 1]."""
        if len(words) > len(self.up):
            self.up, self.down = powers(_BASE, len(words)), powers(_INVERSE, len(words))
        sums = numpy.zeros(len(words) + 1, dtype=numpy.uint64)
        numpy.cumsum(words * self.up[: len(words)], out=sums[1:])
        return sums

    def of(self, sums: numpy.ndarray, length: int) -> numpy.ndarray:
        """Return the hashes of the n-grams of a length, uint64 [words - length + 1], from what
        `prefix` gave.
        """
        count = max(0, len(sums) - length)
        return (sums[length:] - sums[:count]) * self.down[:count]


@dataclass
class Item:
    """An item in use.

    Of which data set and split, which row of the split, its id, its passages, and its texts.
    """

    dataset: str
    split: str
    row: int
    identity: str
    passages: list[str]
    texts: list[str] = field(default_factory=list)


def split_in_use(names: Sequence[str], where: str) -> str:
    """Return the split of a data set that is scored; the others give examples.

    Raises:
        InputError: more than one could be.
    """
    scored = [name for name in names if name not in EXAMPLES] or list(names)
    if "test" in scored:
        return "test"
    if len(scored) != 1:
        raise InputError(f"{where}: splits {', '.join(names)}, expected one that is scored")
    return scored[0]


def read_items(manifest: Path) -> list[Item]:
    """Return the items in use of a data set (`fetch_evaluation`'s parquet beside its manifest),
    with every passage of each.
    """
    path = manifest.with_suffix(".parquet")
    try:
        rows = pyarrow.parquet.read_table(path).to_pylist()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file, expected the items of {manifest}") from None
    except pyarrow.ArrowException as error:
        raise InputError(
            f"{path}: not a whole parquet file ({str(error).splitlines()[0]})"
        ) from None
    if not rows or not {"id", "split"} <= rows[0].keys():
        raise InputError(f"{path}: no items with the columns id and split")
    used = split_in_use(list(dict.fromkeys(row["split"] for row in rows)), str(path))
    scored = [row for row in rows if row["split"] == used]
    return [
        Item(manifest.stem, used, number, str(row["id"]), passages(row), list(_texts(row)))
        for number, row in enumerate(scored)
    ]


def passages(row: Mapping[str, Any]) -> list[str]:
    """Return the passages of an item that training text may repeat.

    Each of its texts, all of them in a row, and each choice after the
    text before the choices: a short question is told by its answer alone."""
    texts: list[str] = []
    pairs: list[str] = []
    for name, value in row.items():
        before = texts[-1] if texts else ""
        value_texts = list(_texts({name: value}))
        texts += value_texts
        if len(value_texts) > 1 and before:
            pairs += [f"{before} {choice}" for choice in value_texts]
    return [*texts, " ".join(texts), *pairs]


def _texts(value: Any) -> Iterator[str]:
    """Yield the texts within a value, in order."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, part in value.items():
            if name not in NO_TEXT:
                yield from _texts(part)
    elif isinstance(value, list):
        for part in value:
            yield from _texts(part)


class ItemTable:
    """The n-grams of items, to be looked up.

    `hashes` is sorted, uint64; the items that have the k-th are `owners[starts[k]:starts[k + 1]]`.
    `lengths` are the lengths of n-grams that occur, `ngrams` how many an item has: none, and it is
    not checked.
    """

    def __init__(self, items: Sequence[Item]):
        self.items = items
        hashes, grams = WordHashes(), NGrams()
        hashed: list[tuple[numpy.ndarray, int]] = []
        lengths: set[int] = set()
        for number, item in enumerate(items):
            for words in map(words_of, item.passages):
                length = min(LONGEST, len(words))
                if length >= SHORTEST:
                    lengths.add(length)
                    hashed.append((grams.of(grams.prefix(hashes.of(words)), length), number))
        values = numpy.concatenate([array for array, _ in hashed] or [numpy.zeros(0, numpy.uint64)])
        owners = numpy.repeat(
            [number for _, number in hashed], [len(array) for array, _ in hashed]
        ).astype(numpy.int64)
        values, self.owners = self._once_without_templates(values, owners)
        self.lengths = sorted(lengths)
        self.hashes, self.starts = numpy.unique(values, return_index=True)
        self.starts = numpy.append(self.starts, len(values))
        self.ngrams = numpy.bincount(self.owners, minlength=len(items))
        # A first look at some leading bits spares nearly every search: 16 places for each n-gram.
        bits = min(26, max(12, int(len(self.hashes) * 16).bit_length()))
        self._shift = numpy.uint64(64 - bits)
        self._seen = numpy.zeros(2**bits, dtype=bool)
        self._seen[self.hashes >> self._shift] = True

    def _once_without_templates(
        self, hashes: numpy.ndarray, owners: numpy.ndarray
    ) -> tuple[numpy.ndarray, numpy.ndarray]:
        """Return hashes and their items sorted by hash, each pair once, without what more than
        TEMPLATE_ITEMS items of a data set share.
        """
        number = {
            name: index
            for index, name in enumerate(dict.fromkeys(item.dataset for item in self.items))
        }
        datasets = numpy.array([number[item.dataset] for item in self.items], dtype=numpy.int64)[
            owners
        ]
        order = numpy.lexsort((owners, datasets, hashes))
        hashes, datasets, owners = hashes[order], datasets[order], owners[order]
        begins = numpy.ones(len(hashes), dtype=bool)  # of the same n-gram in the same data set
        begins[1:] = (hashes[1:] != hashes[:-1]) | (datasets[1:] != datasets[:-1])
        once = begins.copy()
        once[1:] |= owners[1:] != owners[:-1]
        hashes, owners, group = hashes[once], owners[once], numpy.cumsum(begins)[once]
        few = numpy.bincount(group)[group] <= TEMPLATE_ITEMS if len(group) else once
        return hashes[few], owners[few]

    def find(self, hashes: numpy.ndarray) -> tuple[numpy.ndarray, numpy.ndarray]:
        """Return which of the hashes are in the table.

        Their places in `hashes`, and in the table.
        """
        positions = numpy.flatnonzero(self._seen[hashes >> self._shift])
        if not len(positions) or not len(self.hashes):
            return positions[:0], positions[:0]
        at = numpy.minimum(numpy.searchsorted(self.hashes, hashes[positions]), len(self.hashes) - 1)
        equal = self.hashes[at] == hashes[positions]
        return positions[equal], at[equal]


class Scan:
    """Looks training text up in a table of items, document by document, and keeps what it found of
    each item.
    """

    def __init__(self, table: ItemTable):
        self.table = table
        self.matched = numpy.zeros(len(table.hashes), dtype=bool)
        self.documents = numpy.zeros(len(table.items), dtype=numpy.int64)
        self.example: dict[int, str] = {}
        self.words = 0
        self._hashes, self._grams = WordHashes(), NGrams()

    def read(self, documents: Iterable[tuple[str, str]]) -> None:
        """Look up documents, `(id, text)`."""
        names: list[str] = []
        held: list[numpy.ndarray] = []
        size = 0
        for name, text in documents:
            if len(text) > LONG_DOCUMENT:
                self._record([name], [self._look(part, None) for part in self._parts(text)])
                continue
            words = self._hashes.of(words_of(text))
            names.append(name)
            held.append(words)
            size += len(words)
            if size >= BATCH_WORDS:
                self._batch(names, held)
                names, held, size = [], [], 0
        if names:
            self._batch(names, held)

    def _parts(self, text: str) -> Iterator[numpy.ndarray]:
        """Yield a long text's words in parts that overlap by the last words."""
        held: list[str] = []
        for match in _WORD.finditer(unicodedata.normalize("NFKC", text).lower()):
            held.append(match.group())
            if len(held) == BATCH_WORDS:
                yield self._hashes.of(held)
                held = held[1 - LONGEST :]
        yield self._hashes.of(held)

    def _batch(self, names: list[str], held: list[numpy.ndarray]) -> None:
        owner = numpy.repeat(numpy.arange(len(held)), [len(words) for words in held])
        self._record(names, [self._look(numpy.concatenate(held), owner)])

    def _look(
        self, words: numpy.ndarray, owner: numpy.ndarray | None
    ) -> tuple[numpy.ndarray, numpy.ndarray]:
        """Return what was found.

        Places in the table, and of which document (0 where `owner` is None); none across two
        documents.
        """
        self.words += len(words)
        sums = self._grams.prefix(words)
        entries, documents = [], []
        for length in self.table.lengths:
            positions, matches = self.table.find(self._grams.of(sums, length))
            if owner is not None:
                whole = owner[positions] == owner[positions + length - 1]
                positions, matches = positions[whole], matches[whole]
            entries.append(matches)
            documents.append(
                numpy.zeros(len(matches), dtype=numpy.int64) if owner is None else owner[positions]
            )
        return numpy.concatenate(entries or [numpy.zeros(0, numpy.int64)]), numpy.concatenate(
            documents or [numpy.zeros(0, numpy.int64)]
        )

    def _record(self, names: list[str], looked: list[tuple[numpy.ndarray, numpy.ndarray]]) -> None:
        """Keep what was found in some documents; each document counts once for each item."""
        entries = numpy.concatenate([matches for matches, _ in looked])
        documents = numpy.concatenate([numbers for _, numbers in looked])
        if not len(entries):
            return
        self.matched[entries] = True
        starts, ends = self.table.starts[entries], self.table.starts[entries + 1]
        owners = numpy.concatenate(
            [self.table.owners[start:end] for start, end in zip(starts, ends)]
        )
        pairs = numpy.unique(
            numpy.stack([numpy.repeat(documents, ends - starts), owners], axis=1), axis=0
        )
        for document, item in pairs.tolist():
            self.documents[item] += 1
            self.example.setdefault(item, names[document])

    def rows(self) -> list[dict[str, Any]]:
        """Return a row, in the columns of ROWS, for each item of which something was found."""
        counts = numpy.zeros(len(self.table.items), dtype=numpy.int64)
        matched = numpy.repeat(self.matched, numpy.diff(self.table.starts))
        numpy.add.at(counts, self.table.owners[matched], 1)
        return [
            {
                "dataset": item.dataset,
                "split": item.split,
                "row": item.row,
                "item": item.identity,
                "ngrams": int(self.table.ngrams[number]),
                "matched": int(counts[number]),
                "documents": int(self.documents[number]),
                "example": self.example[number],
            }
            for number, item in enumerate(self.table.items)
            if counts[number]
        ]
