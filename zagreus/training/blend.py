"""The order in which folders are drawn from: nanotron's blending, generated as it is needed."""

from __future__ import annotations

from collections.abc import Sequence


class Blend:
    """Sample i comes from the folder that lags most behind its share: argmax of weight * max(i, 1) - drawn, in double precision, the
    first of equals (nanotron, `nemo_dataset/helpers.cpp`). The order does not depend on its length, and `drawn` is its whole state."""

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
