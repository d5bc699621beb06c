"""The order in which folders are drawn from.

Nanotron's blending, generated as it is needed, and found at any place of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

# samples a folder that the search for a state goes back at first; a handful are enough for most
# weights
_FIRST = 64
_MOST = 200_000  # states followed at a time: with up to 14 folders there are fewer


class Blend:
    """Sample i comes from the folder that lags most behind its share.

    Argmax of weight * max(i, 1) - drawn, in double precision, the
    first of equals (nanotron, `nemo_dataset/helpers.cpp`). The order does not depend on its length,
    and `drawn` is its whole state."""

    def __init__(self, weights: Sequence[float], drawn: Sequence[int] | None = None) -> None:
        """Start at the beginning, or where `drawn` samples have been taken from the folders."""
        total = sum(weights)
        self.weights = [weight / total for weight in weights]
        self.drawn = list(drawn) if drawn is not None else [0] * len(self.weights)
        self.position = sum(self.drawn)

    def next(self) -> tuple[int, int]:
        """Return the folder and the window within it of the next sample."""
        scale = max(self.position, 1)
        best, folder = float("-inf"), 0
        for index, weight in enumerate(self.weights):
            lag = weight * scale - self.drawn[index]
            if lag > best:
                best, folder = lag, index
        window = self.drawn[folder]
        self.drawn[folder] += 1
        self.position += 1
        return folder, window


def drawn_at(weights: Sequence[float], position: int) -> list[int]:
    """Return how many of the first `position` samples come from each folder, in a time that does
    not grow with `position`.

    The state at a place some samples earlier is not known, but it is one of few: a folder's lag is
    above -1, as only the largest of lags that sum to 0 is drawn from, and at most H(K-1) = 1 + 1/2
    + ... + 1/(K-1) for K folders (the j folders that lag most lag by at most 1/j more, on average,
    than the j + 1 that do: by induction from all K, whose lags sum to 0). All of them are followed
    until they have become one, which is then the true one; where they have not become one, the
    search starts earlier, at last at the beginning.
    """
    blend = Blend(weights)
    share, back = np.array(blend.weights), _FIRST * len(blend.weights)
    while back < position:
        current = position - back
        states = _possible(blend.weights, current)
        if states is None:
            break
        while len(states) > 1 and current < position:
            states[np.arange(len(states)), (share * current - states).argmax(axis=1)] += 1
            current += 1
            if current % 8 == 0 or current == position:
                states = np.unique(states, axis=0)
        if len(states) == 1:
            blend = Blend(weights, states[0].tolist())
            break
        back *= 8
    while blend.position < position:
        blend.next()
    return blend.drawn


def _possible(weights: Sequence[float], position: int) -> np.ndarray | None:
    """Return every state that the blending can be in at a place, [states, folders].

    None where there are too many to follow.
    """
    highest = sum(1 / index for index in range(1, len(weights))) + 1e-6
    options = []
    for weight in weights:
        exact = weight * position
        options.append(range(max(0, math.ceil(exact - highest)), math.floor(exact + 1 + 1e-6) + 1))
    lowest_rest, highest_rest = [0], [0]  # of the folders from the last one on
    for choice in reversed(options):
        lowest_rest.append(lowest_rest[-1] + choice[0])
        highest_rest.append(highest_rest[-1] + choice[-1])

    def states(index: int, left: int) -> Iterator[tuple[int, ...]]:
        if index == len(options):
            yield ()
            return
        after = len(options) - index - 1
        for drawn in options[index]:
            if lowest_rest[after] <= left - drawn <= highest_rest[after]:
                for rest in states(index + 1, left - drawn):
                    yield (drawn, *rest)

    reached = []
    for state in states(0, position):
        reached.append(state)
        if len(reached) > _MOST:
            return None
    return np.array(reached, dtype=np.int64)
