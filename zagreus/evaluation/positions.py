"""Loss by position: how well a model predicts the tokens at each distance from a text's beginning.

The position of a token is the number of tokens before it, the begin token among them. So a model
that was trained on windows of 128 tokens knows the positions 1 to 128. The ranges of positions
double: 1 to 64, 65 to 128, 129 to 256, ...
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

# The last position of the first range, and of the last one in recipes/evaluate/positions.yaml.
FIRST, LAST = 64, 32_768


def position_ranges(length: int) -> list[tuple[int, int]]:
    """Return the ranges (first, last) of positions that a text of `length` tokens fills."""
    ranges, first, last = [], 1, FIRST
    while last <= min(length, LAST):
        ranges.append((first, last))
        first, last = last + 1, 2 * last
    return ranges


def range_requests(
    begin: int, documents: Sequence[Sequence[int]]
) -> list[tuple[None, list[int], list[int]]]:
    """Return a request for each document and range: (None, the tokens before it, its tokens).

    Every document is scored at the same positions: those that the shortest one has. So two ranges
    differ in the distance from the beginning, and not in the documents.

    Args:
        begin: the begin token, which stands before each document.
        documents: the tokens of each document.
    """
    ranges = position_ranges(min(map(len, documents)))
    return [
        (None, [begin, *document[: first - 1]], list(document[first - 1 : last]))
        for document in documents
        for first, last in ranges
    ]


def position_results(
    document: Mapping[str, Any], results: Sequence[Sequence[float]]
) -> dict[str, float]:
    """Return the loss of a document in each range of positions, in nats per token.

    `results[0]` are the log-likelihoods of the ranges, in nats.
    """
    longest = FIRST * 2 ** (len(results[0]) - 1)
    return {
        f"loss_{first}_{last}": -value / (last - first + 1)
        for (first, last), value in zip(position_ranges(longest), results[0], strict=True)
    }
