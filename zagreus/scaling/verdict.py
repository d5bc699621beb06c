"""Whether a ladder predicts its own rungs: the judgement of leave-one-out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from scipy.stats import binom

# How often an interval should hold.
LEVEL = 0.9
# A ladder with intervals that hold as often as they should is refused in one of twenty runs.
LEAST_PROBABILITY = 0.05


def verdict(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return whether the rungs lie inside the intervals that the other rungs give them.

    At 90 % one rung of ten may lie outside. The ladder holds if as many are inside as such
    intervals have in all but one of twenty ladders, and the largest rung is among them: the
    prediction goes further in its direction.

    Args:
        rows: `rung`, `parameters`, `tokens` and `inside` of each rung.

    Returns:
        `inside` and `rungs` (counts), `least` (how many must be inside), `outside` (names),
        `largest_inside`, `holds`, and all of it in words: `summary`.
    """
    outside = [row["rung"] for row in rows if not row["inside"]]
    least = next(
        count
        for count in range(len(rows) + 1)
        if binom.cdf(count, len(rows), LEVEL) >= LEAST_PROBABILITY
    )
    inside = len(rows) - len(outside)
    largest = max(rows, key=lambda row: (row["parameters"], row["tokens"]))
    holds = inside >= least and bool(largest["inside"])
    summary = f"leave one out: {inside} of {len(rows)} rungs inside their {LEVEL:.0%} intervals"
    if outside:
        summary += f"; outside: {', '.join(outside)}"
    if not holds:
        summary += f"; expected {least} or more, the largest rung among them"
    return {
        "inside": inside,
        "rungs": len(rows),
        "least": least,
        "outside": outside,
        "largest_inside": bool(largest["inside"]),
        "holds": holds,
        "summary": summary,
    }
