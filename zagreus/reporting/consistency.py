"""What is doubtful about a published number, found by looking at the numbers.

Rows that repeat, means that are none, majority-class baselines.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from zagreus.errors import InputError


def repeats(table: pd.DataFrame, columns: list[str]) -> dict[Any, str]:
    """Return a note for each row whose scores are, digit for digit, those of another one.

    A single score may well agree.
    """
    label = table["checkpoint"] if "checkpoint" in table else table["model"]
    notes = {}
    full = table[table[columns].notna().sum(axis=1) > 1]
    for _, same in full.groupby(columns, dropna=False):
        if len(same) > 1:
            for number in same.index:
                others = ", ".join(str(label[other]) for other in same.index if other != number)
                notes[number] = f"the row is identical with {others}"
    return notes


def wrong_mean(published: pd.Series, quantity: str, group: list[str]) -> Iterator[str]:
    """Yield a note where a mean is not that of its row, by more than rounding can explain.

    Half a unit of the last digit, twice.
    """
    values = [float(published[column]) for column in group if not pd.isna(published[column])]
    if not values:
        return
    mean, digits = sum(values) / len(values), len(f"{published[quantity]}".partition(".")[2])
    if abs(mean - float(published[quantity])) > 1.001 * 10.0**-digits:
        yield f"the mean of the row is {mean:.4f}"


def partial_mean(published: pd.Series, group: list[str]) -> Iterator[str]:
    """Yield a note where a mean is of fewer scores than those of other rows."""
    there = sum(not pd.isna(published[column]) for column in group)
    if 0 < there < len(group):
        yield f"the mean of {there} of {len(group)} scores, not to be compared with the others"


class Trivial:
    """What answers without a look at the question get.

    Of the run's own tasks, and by `baselines.csv` of the published ones.

    `baselines.csv`: task, metric, classes, majority (share of the most frequent label, or empty),
    chance (of a guess, or empty), source. The majority-class baseline has the majority's share p as
    accuracy, and a macro-F1 of 2p / (1 + p) / classes: its F1 on its own class is 2p / (1 + p), 0
    on the others.
    """

    def __init__(self, reference: Path, scores: pd.DataFrame):
        file = reference / "baselines.csv"
        if not file.is_file():
            raise InputError(
                f"{file}: no such file, expected the shares of the most frequent labels"
            )
        self._ranges: dict[
            str, tuple[float, float]
        ] = {}  # of the majority-class baseline's score, by task and by task:metric
        self._chance: dict[str, float] = {}
        for row in pd.read_csv(file, dtype={"majority": str}).itertuples():
            names = (str(row.task), f"{row.task}:{row.metric}")
            if isinstance(row.majority, str):
                half = (
                    0.0
                    if row.majority.endswith("00")
                    else 0.5 * 10.0 ** -len(row.majority.partition(".")[2])
                )
                ends = [
                    _score(float(row.majority) + side * half, str(row.metric), int(row.classes))
                    for side in (-1, 1)
                ]
                self._ranges |= dict.fromkeys(names, (ends[0], ends[1]))
            if not pd.isna(row.chance):
                self._chance |= dict.fromkeys(names, float(row.chance))
        known = (
            scores.dropna(subset=["majority_baseline"])
            .groupby(["task", "metric"])["majority_baseline"]
            .first()
        )
        self._ranges |= {
            f"{task}:{metric}": (value, value) for (task, metric), value in known.items()
        }

    def equal(self, value: float, quantity: str) -> Iterator[str]:
        """Yield a note where the majority-class baseline has the very score, to the four digits
        that are printed.
        """
        if quantity in self._ranges:
            low, high = self._ranges[quantity]
            if low - 5e-5 <= value <= high + 5e-5:
                yield "the majority-class baseline has this score"

    def below(self, value: float, quantity: str) -> Iterator[str]:
        """Yield a note where a score is below what takes no skill.

        The majority-class baseline, or far below a guess.
        """
        if quantity in self._ranges and value < self._ranges[quantity][0] - 5e-5:
            yield f"below the majority-class baseline, {self._ranges[quantity][0]:.4f}"
        if quantity in self._chance and value < 0.5 * self._chance[quantity]:
            yield (
                f"far below a guess ({self._chance[quantity]:g}): answers that were not understood"
            )


def _score(majority: float, metric: str, classes: int) -> float:
    return 2 * majority / (1 + majority) / classes if metric == "f1_macro" else majority


class Touches:
    """Which numbers the report's contradictions are about (`touches.csv`.

    Topic, table, row, quantity; an empty field is any).
    """

    def __init__(self, reference: Path):
        file = reference / "touches.csv"
        if not file.is_file():
            raise InputError(
                f"{file}: no such file, expected which numbers the contradictions touch"
            )
        self._rows = pd.read_csv(file, dtype=str).fillna("").to_dict("records")

    def of(self, table: int, row: str, quantity: str) -> Iterator[str]:
        """Yield a note for each contradiction that touches a number."""
        for contradiction in self._rows:
            if (
                contradiction["table"] == str(table)
                and contradiction["row"] in ("", row)
                and contradiction["quantity"] in ("", quantity)
            ):
                yield f"see the contradiction “{contradiction['topic']}”"
