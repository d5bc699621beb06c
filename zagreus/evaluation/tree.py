"""Token sequences as one tree, cut into forward passes.

What sequences begin with alike is computed once.

The sequences in order make a prefix tree, which is walked depth first. A part of it that fits into
the budget goes through the model in one piece, its branches beside one another; of a larger part
the common beginning goes through first and stays in the cache of keys and values while its branches
are walked. So the examples before a question are computed once a task, a question once for all its
choices, and a token that several sequences share never twice within a piece.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy

# What a pass costs beside its tokens (some 20 small operations a layer), in tokens.
PASS = 16


@dataclass(frozen=True)
class Piece:
    """One forward pass.

    The tokens of the sequences `first` to `last` from depth `start` on, each token of the tree
    once.

    `rows[i]` gives the place in `tokens` of each token of sequence `first + i` from depth `start`
    on. `start` tokens before them, which all of them share, are in the cache. `kept`: the tokens
    stay in the cache (they are one chain, and `stop` is its end); otherwise `stop` is None and the
    sequences end in this piece.
    """

    first: int
    last: int
    start: int
    stop: int | None
    tokens: numpy.ndarray  # int64 [nodes]
    depths: numpy.ndarray  # int64 [nodes]
    rows: list[numpy.ndarray]

    @property
    def kept(self) -> bool:
        return self.stop is not None

    @property
    def chain(self) -> bool:
        """Whether every token follows the one before it."""
        return bool(self.depths[-1] - self.depths[0] == len(self.depths) - 1)

    def mask(self) -> numpy.ndarray:
        """Return which tokens of the piece each of them sees, bool [nodes, nodes].

        Those on its own path, and itself. None comes after it.
        """
        seen = numpy.zeros((len(self.tokens), len(self.tokens)), dtype=bool)
        done = 0
        for path in self.rows:
            shared = int(numpy.searchsorted(path, done))
            fresh = path[shared:]
            if not len(fresh):
                continue
            seen[fresh[:, None], path[None, :shared]] = True
            seen[fresh[:, None], fresh[None, :]] = numpy.tril(
                numpy.ones((len(fresh), len(fresh)), dtype=bool)
            )
            done += len(fresh)
        return seen


def pieces(sequences: Sequence[Sequence[int]], budget: int) -> Iterator[Piece]:
    """Yield the passes in which the sequences go through the model, in an order in which a cache
    serves them.

    Before a piece the cache is to be cut to its `start` tokens.

    Args:
        sequences: each at least a token long, all different, in lexicographic order.
        budget: tokens of a pass; one sequence alone may be longer.
    """
    shared = [0] + [
        _common(one, other) for one, other in zip(sequences, sequences[1:], strict=False)
    ]
    yield from _walk(sequences, shared, 0, len(sequences) - 1, 0, budget)


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """Return how many tokens two sequences begin with alike."""
    length = min(len(one), len(other))
    low, high = 0, length
    while low < high:  # comparing slices is C's speed, a loop over tokens is not
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _walk(
    sequences: Sequence[Sequence[int]],
    shared: Sequence[int],
    first: int,
    last: int,
    start: int,
    budget: int,
) -> Iterator[Piece]:
    size = _size(sequences, shared, first, last, start)
    if size == 0:
        return  # a sequence that is the beginning of others, all of which is in the cache
    if size <= budget or first == last:
        yield _piece(sequences, shared, first, last, start, None)
        return
    common = min(shared[first + 1 : last + 1])
    # The beginning would else go through once in every piece.
    if (common - start) * (math.ceil(size / budget) - 1) > PASS:
        yield _piece(sequences, shared, first, last, start, common)
        start = common
    begin, filled = first, 0
    for low, high in _branches(shared, first, last, common):
        branch = _size(sequences, shared, low, high, common)
        if begin < low and common - start + filled + branch > budget:
            yield from _walk(sequences, shared, begin, low - 1, start, budget)
            begin, filled = low, 0
        filled += branch
    if begin <= last:
        yield from _walk(sequences, shared, begin, last, start, budget)


def _size(
    sequences: Sequence[Sequence[int]], shared: Sequence[int], first: int, last: int, start: int
) -> int:
    """Return the number of tokens in the tree of the sequences `first` to `last` from depth `start`
    on.
    """
    return (
        len(sequences[first])
        - start
        + sum(
            len(sequences[index]) - max(shared[index], start)
            for index in range(first + 1, last + 1)
        )
    )


def _branches(
    shared: Sequence[int], first: int, last: int, common: int
) -> Iterator[tuple[int, int]]:
    """Yield the first and last sequence of each branch after the `common` beginning."""
    low = first
    for index in range(first + 1, last + 1):
        if shared[index] <= common:
            yield low, index - 1
            low = index
    yield low, last


def _piece(
    sequences: Sequence[Sequence[int]],
    shared: Sequence[int],
    first: int,
    last: int,
    start: int,
    stop: int | None,
) -> Piece:
    if stop is not None:
        tokens = numpy.array(sequences[first][start:stop], dtype=numpy.int64)
        path = numpy.arange(stop - start)
        return Piece(
            first, last, start, stop, tokens, numpy.arange(start, stop), [path] * (last - first + 1)
        )
    tokens_of, depths_of, rows = [], [], []
    path, count = numpy.zeros(0, dtype=numpy.int64), 0
    for index in range(first, last + 1):
        begin = start if index == first else max(shared[index], start)
        length = len(sequences[index]) - begin
        path = numpy.concatenate([path[: begin - start], numpy.arange(count, count + length)])
        tokens_of.append(numpy.array(sequences[index][begin:], dtype=numpy.int64))
        depths_of.append(numpy.arange(begin, begin + length))
        rows.append(path)
        count += length
    return Piece(
        first, last, start, None, numpy.concatenate(tokens_of), numpy.concatenate(depths_of), rows
    )
