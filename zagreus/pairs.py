"""Metrics made of pairs (what is right, what was answered) that are no mean over items.

Scores and reports both need them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy


def f1_macro(pairs: Sequence[tuple[str, str]]) -> float:
    """Return the mean over the right labels of the F1 score of each.

    An answer that gives no label is a miss, and no class of its own.
    """
    rights, predicted = (numpy.array(column) for column in zip(*pairs, strict=True))
    scores = []
    for label in numpy.unique(rights):
        hits = numpy.sum((rights == label) & (predicted == label))
        scores.append(2 * hits / (numpy.sum(rights == label) + numpy.sum(predicted == label)))
    return float(numpy.mean(scores))


def pearson(pairs: Sequence[tuple[float, float]]) -> float:
    """Return Pearson's correlation; 0 where one of the two does not vary."""
    rights, predicted = (numpy.array(column, dtype=float) for column in zip(*pairs, strict=True))
    if numpy.ptp(rights) == 0 or numpy.ptp(predicted) == 0:
        return 0.0
    return float(numpy.corrcoef(rights, predicted)[0, 1])


METRICS: Mapping[str, Callable[[Sequence[Any]], float]] = {"f1_macro": f1_macro, "pearson": pearson}
