"""Standard errors of scores.

How far they would lie from one another on other items of the same kind.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy

RESAMPLES, SEED = 1000, 1


def ratio_stderr(numerators: Sequence[float], denominators: Sequence[float]) -> float | None:
    """Return the standard error of sum(numerators) / sum(denominators) over independent items.

    None for fewer than two.

    By linearization (W. G. Cochran, Sampling Techniques, 3rd edition, 1977, section 6.3): with R
    the ratio and n items, SE = sqrt(n / (n - 1) * sum (numerator - R denominator)^2) /
    sum(denominators).
    """
    n = len(numerators)
    if n < 2:
        return None
    total = math.fsum(denominators)
    ratio = math.fsum(numerators) / total
    squares = math.fsum(
        (numerator - ratio * denominator) ** 2
        for numerator, denominator in zip(numerators, denominators, strict=True)
    )
    return math.sqrt(n / (n - 1) * squares) / total


def share_stderr(values: Sequence[float]) -> float | None:
    """Return the standard error of a mean, with the sample's variance (n - 1).

    None for fewer than two values.
    """
    n = len(values)
    if n < 2:
        return None
    mean = math.fsum(values) / n
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1) / n)


def clustered_stderr(values: Sequence[float], clusters: Sequence[str]) -> float | None:
    """Return the standard error of a mean over items that come in clusters (questions of one
    subject); None for one cluster.

    The mean is the ratio of the clusters' sums to their sizes. With a cluster for each item it is
    `share_stderr`.
    """
    sums: dict[str, list[float]] = {}
    for value, cluster in zip(values, clusters, strict=True):
        sums.setdefault(cluster, []).append(value)
    return ratio_stderr(
        [math.fsum(group) for group in sums.values()],
        [float(len(group)) for group in sums.values()],
    )


def bootstrap_stderr(
    values: Sequence[Any], aggregate: Callable[[Sequence[Any]], float]
) -> float | None:
    """Return the standard error of what is no mean (macro-F1, a correlation).

    Its spread over RESAMPLES draws of as many items, with
    repetition, the same ones every time (B. Efron, The Annals of Statistics 7, 1979); None for
    fewer than two items."""
    if len(values) < 2:
        return None
    chance = numpy.random.default_rng(SEED)
    drawn = [
        aggregate([values[index] for index in chance.integers(len(values), size=len(values))])
        for _ in range(RESAMPLES)
    ]
    return float(numpy.std(drawn, ddof=1))
