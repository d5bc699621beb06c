"""Paired comparisons.

Two checkpoints on the same items, where most of what makes an item hard or easy cancels.

Right or wrong: McNemar's exact test (Q. McNemar, Psychometrika 12, 1947; exact form: the items that
only one of the two has right are tosses of a fair coin). Bits per byte: the difference of two
ratios with the same denominators, its standard error by linearization over the items' differences
(W. G. Cochran, Sampling Techniques, 3rd edition, 1977, section 6.3), and the normal distribution.
The p-values of a task are adjusted together (S. Holm, Scandinavian Journal of Statistics 6, 1979),
since one in twenty comparisons of equals is below 0.05.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import combinations, pairwise
from statistics import NormalDist
from typing import Any

import numpy as np
import pandas as pd

from zagreus.errors import InputError
from zagreus.reporting.items import Answers, Pairs
from zagreus.reporting.published import HEADLINE
from zagreus.reporting.tables import Model

COLUMNS = [
    "task",
    "metric",
    "model",
    "checkpoint",
    "other",
    "other_checkpoint",
    "why",
    "n",
    "difference",
    "stderr",
    "better",
    "worse",
]
COLUMNS += ["p_value", "p_adjusted"]


def mcnemar(better: int, worse: int) -> float:
    """Return the two-sided p-value of McNemar's exact test.

    So many items that only the one, so many that only the other has right.
    """
    tosses, fewer = better + worse, min(better, worse)
    # Python's integers, term by term: exact for any number of items.
    term = total = 1
    for number in range(1, fewer + 1):
        term = term * (tosses - number + 1) // number
        total += term
    return min(1.0, 2 * total / 2**tosses)


def holm(values: list[float]) -> list[float]:
    """Return p-values adjusted for their number by Holm's method, in the order given."""
    adjusted, highest = [0.0] * len(values), 0.0
    for rank, index in enumerate(sorted(range(len(values)), key=values.__getitem__)):
        highest = max(highest, min(1.0, values[index] * (len(values) - rank)))
        adjusted[index] = highest
    return adjusted


def compare(first: Answers, other: Answers) -> dict[str, Any]:
    """Return n, difference (first minus other), its standard error, items better and worse, and the
    p-value, of the same items.

    Raises:
        InputError: the two were asked different items.
    """
    if not np.array_equal(first.items, other.items) or not np.array_equal(
        first.denominators, other.denominators
    ):
        raise InputError(
            f"{first.task}: {first.model}/{first.checkpoint} and {other.model}/{other.checkpoint} "
            "were asked different items"
        )
    n, total = len(first.items), first.denominators.sum()
    difference = float((first.numerators.sum() - other.numerators.sum()) / total)
    residuals = first.numerators - other.numerators - difference * first.denominators
    stderr = math.sqrt(n / (n - 1) * float((residuals**2).sum())) / float(total) if n > 1 else None
    gain = (first.numerators - other.numerators) * (1 if first.higher_is_better else -1)
    better, worse = int((gain > 0).sum()), int((gain < 0).sum())
    if first.whether:
        p_value = mcnemar(better, worse)
    else:
        p_value = (
            2 * NormalDist().cdf(-abs(difference) / stderr)
            if stderr
            else (1.0 if difference == 0 else 0.0)
        )
    return {
        "n": n,
        "difference": difference,
        "stderr": stderr,
        "better": better,
        "worse": worse,
        "p_value": p_value,
    }


def paired_table(answers: Iterable[Answers | Pairs], models: list[Model]) -> pd.DataFrame:
    """Return one row per comparison, of each task by the metric that tables quote: COLUMNS.

    `why` is `training` (a checkpoint against the
    one before it, and the last against the first), `parent` (a model against the one it was made
    from) or `models` (last checkpoints against one another)."""
    tasks: dict[str, dict[tuple[str, str], Answers]] = {}
    for answer in answers:
        if isinstance(answer, Pairs):
            continue  # no test of a difference: the same items' accuracy has one
        by_model = tasks.setdefault(answer.task, {})
        held = by_model.get((answer.model, answer.checkpoint))
        if held is None or _rank(answer) < _rank(held):
            by_model[answer.model, answer.checkpoint] = answer
    rows = []
    for task, task_answers in tasks.items():
        compared: list[dict[str, Any]] = []
        for one, other, why in _pairs(models):
            if (
                one in task_answers
                and other in task_answers
                and task_answers[one].metric == task_answers[other].metric
            ):
                comparison = compare(task_answers[one], task_answers[other])
                names = {
                    "model": one[0],
                    "checkpoint": one[1],
                    "other": other[0],
                    "other_checkpoint": other[1],
                    "why": why,
                }
                compared.append(
                    {"task": task, "metric": task_answers[one].metric, **names, **comparison}
                )
        for row, adjusted in zip(compared, holm([float(row["p_value"]) for row in compared])):
            row["p_adjusted"] = adjusted
        rows += compared
    return pd.DataFrame(rows, columns=COLUMNS)


def _rank(answers: Answers) -> int:
    """Return where a metric stands among those by which a task may be compared.

    The one that tables quote first.
    """
    return HEADLINE.index(answers.metric) if answers.metric in HEADLINE else len(HEADLINE)


def _pairs(models: list[Model]) -> Iterator[tuple[tuple[str, str], tuple[str, str], str]]:
    """Yield what is compared with what, and why; each pair once."""
    last = {model["name"]: (model["name"], model["checkpoints"][-1]) for model in models}
    done = set()
    for model in models:
        points = [(model["name"], checkpoint) for checkpoint in model["checkpoints"]]
        for before, after in [
            *pairwise(points),
            *([(points[0], points[-1])] if len(points) > 2 else []),
        ]:
            done.add((after, before))
            yield after, before, "training"
        if model["parent"] in last:
            done.add((points[-1], last[model["parent"]]))
            yield points[-1], last[model["parent"]], "parent"
    for other, one in combinations(last.values(), 2):
        if (one, other) not in done and (other, one) not in done:
            yield one, other, "models"
