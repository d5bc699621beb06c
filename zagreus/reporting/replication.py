"""The replication.

Every published number, with ours beside it where the run has one, and what is doubtful about it.

What is doubtful is found by a check, not by hand (`consistency.py`): rows that repeat another
row digit for digit, means that are not the mean of their row, values that the majority-class
baseline has too. What the report says against itself stands beside the numbers that it touches.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd

from zagreus.errors import InputError
from zagreus.reporting.agentic import measured_passes, published_numbers
from zagreus.reporting.consistency import Touches, Trivial, partial_mean, repeats, wrong_mean
from zagreus.reporting.tables import STANDARD_ERRORS

COLUMNS = [
    "table",
    "row",
    "step",
    "quantity",
    "published",
    "model",
    "checkpoint",
    "task",
    "metric",
    "ours",
    "stderr",
    "standard_errors",
]
COLUMNS += ["status", "note"]
PRIVATE = "cannot be reproduced: private data"
STATUS = ("confirmed", "differs", "contradicts itself", PRIVATE, "not run")
# The number of the table of tool use: the published report itself has tables 1 to 7.
CASES_TABLE = 8
TITLES = {
    0: "Lines of training log",
    CASES_TABLE: "Nesso2: cases of tool use passed",
    9: "Nesso2: the stage of knowledge",
    10: "Nesso2: means",
}
# Columns of a published table that are no score.
KEYS = ("rank", "model", "checkpoint", "step")


def replication_table(
    reference: Path | str,
    scores: pd.DataFrame,
    checkpoints: dict[str, list[str]],
    cases: pd.DataFrame,
) -> pd.DataFrame:
    """Return one row per published number.

    Args:
        reference: the folder with `tables.csv`, `models.csv`, `tasks.csv` and the published tables.
        scores: the run's scores, in long form.
        checkpoints: the run's models with their checkpoints, in order.
        cases: the run's passes of the cases of tool use (`agentic_table`).

    Returns:
        COLUMNS: table; row, step (of a base model) and quantity as published (`task:metric`, or a
        mean); published; the run's model, checkpoint, task and metric that it is about (no task for
        a mean); ours, stderr (of ours); standard_errors, the difference in units of that; status,
        one of `STATUS`; note. A number counts as confirmed within two standard errors of ours: the
        items are the same, the published error is not known. Where a row is doubtful and nothing of
        ours stands against it, its status says so.

    Raises:
        InputError: a table that `tables.csv` names is not there, or one of the files beside it.
    """
    folder = Path(reference)
    index = pd.read_csv(folder / "tables.csv").drop_duplicates("file")
    names = pd.read_csv(folder / "models.csv", dtype=str).set_index("published")
    tasks = Tasks(folder)
    trivial, touches = Trivial(folder, scores), Touches(folder)
    values = scores.set_index(["model", "checkpoint", "task", "metric"])[
        ["value", "stderr"]
    ].sort_index()
    rows: list[dict[str, Any]] = []
    for entry in index.itertuples():
        file = folder / str(entry.file)
        if not file.is_file():
            raise InputError(f"{file}: no such file, {folder / 'tables.csv'} names it")
        table = pd.read_csv(file)
        quantities = [column for column in table.columns if column not in KEYS]
        same = repeats(table, [column for column in quantities if not column.startswith("mean")])
        for number, published in table.iterrows():
            label = str(published["checkpoint"] if "checkpoint" in table else published["model"])
            model, checkpoint, private = _ours(published, str(entry.model), names, checkpoints)
            for quantity in quantities:
                if pd.isna(published[quantity]):
                    continue
                group = _group(quantity, quantities)
                value = float(published[quantity])
                doubts = [same[number]] if number in same else []
                doubts += [*wrong_mean(published, quantity, group), *trivial.equal(value, quantity)]
                remarks = [
                    *partial_mean(published, group),
                    *trivial.below(value, quantity),
                    *touches.of(int(entry.table), label, quantity),
                ]
                remarks += ["trained on data that were not published"] if private else []
                measured = _score(
                    values, model, checkpoint, [tasks.of(member) for member in group or [quantity]]
                )
                remarks += tasks.remarks(quantity)
                mean = quantity.startswith("mean")
                task, metric = (None, None) if mean else tasks.of(quantity)
                rows.append(
                    {
                        "table": entry.table,
                        "row": label,
                        "step": int(published["step"]) if "step" in table else None,
                        "quantity": quantity,
                        "published": value,
                        "model": model,
                        "checkpoint": checkpoint,
                        "task": task,
                        "metric": metric,
                        **_compare(value, measured, bool(doubts), private),
                        "note": "; ".join([*doubts, *remarks]),
                    }
                )
    rows += _case_rows(folder, cases, names, checkpoints, touches)
    rows += _log_rows(folder, touches)
    return pd.DataFrame(rows, columns=COLUMNS).astype({"step": "Int64"})


class Tasks:
    """Which task and metric of this workflow a published column is about.

    `task:metric`, or by `tasks.csv` where it names no metric.
    """

    def __init__(self, reference: Path):
        file = reference / "tasks.csv"
        if not file.is_file():
            raise InputError(
                f"{file}: no such file, expected which task each column without a metric is about"
            )
        self._rows = pd.read_csv(file, dtype=str).fillna("").set_index("published")

    def of(self, quantity: str) -> tuple[str, str]:
        """Return (task, metric)."""
        if quantity in self._rows.index:
            return str(self._rows.loc[quantity, "task"]), str(self._rows.loc[quantity, "metric"])
        task, _, metric = quantity.partition(":")
        return task, metric

    def remarks(self, quantity: str) -> list[str]:
        """Return what must be said of our score beside a published one."""
        return [str(self._rows.loc[quantity, "note"])] if quantity in self._rows.index else []


def _case_rows(
    folder: Path,
    cases: pd.DataFrame,
    names: pd.DataFrame,
    checkpoints: dict[str, list[str]],
    touches: Touches,
) -> list[dict[str, Any]]:
    """Return the rows of the published passes of the cases of tool use: counts, not shares."""
    rows = []
    for label, quantity, passed in published_numbers(folder):
        model, checkpoint, private = _ours(pd.Series({"model": label}), "", names, checkpoints)
        measured = measured_passes(cases, model, checkpoint, quantity)
        notes = list(touches.of(CASES_TABLE, label, quantity))
        notes += ["trained on data that were not published"] if private else []
        row = {"table": CASES_TABLE, "row": label, "quantity": quantity, "published": passed}
        row |= {"model": model, "checkpoint": checkpoint}
        row |= _compare(float(passed), measured, False, private)
        rows.append(row | {"note": "; ".join(notes)})
    return rows


def _log_rows(folder: Path, touches: Touches) -> list[dict[str, Any]]:
    """Return the rows of the published lines of training log, as table 0.

    None of them is comparable with a run of another size.
    """
    rows = []
    for line in pd.read_csv(folder / "training_log.csv").to_dict("records"):
        for quantity, value in line.items():
            if quantity not in ("time", "iteration"):
                label = f"iteration {line['iteration']}"
                notes = list(touches.of(0, label, str(quantity)))
                status = "contradicts itself" if notes else "not run"
                row = {
                    "table": 0,
                    "row": label,
                    "quantity": quantity,
                    "published": float(value),
                    "status": status,
                }
                rows.append(row | {"note": "; ".join(notes)})
    return rows


def contradiction_table(reference: Path | str) -> pd.DataFrame:
    """Return what the published report says against itself, topic, one_place, another_place, from
    `known_contradictions.md`.
    """
    lines = (Path(reference) / "known_contradictions.md").read_text(encoding="utf-8").splitlines()
    # Between spaces: a cell may hold a bar itself (`<|begin_of_text|>`).
    cells = [
        [cell.strip() for cell in line.strip()[1:-1].split(" | ")]
        for line in lines
        if line.startswith("| ")
    ]
    return pd.DataFrame(cells[1:], columns=["topic", "one_place", "another_place"])


def _ours(
    published: pd.Series, model: str, names: pd.DataFrame, checkpoints: dict[str, list[str]]
) -> tuple[str | None, str | None, bool]:
    """Return the run's model and checkpoint that a published row is about, None where the run has
    none, and whether its data are private.
    """
    if "step" in published:
        step = str(int(published["step"]))
        return model, step if step in checkpoints.get(model, []) else None, False
    name = str(published["model"])
    if name not in names.index:
        return None, None, False
    own_model, named = str(names.loc[name, "model"]), names.loc[name, "checkpoint"]
    there = checkpoints.get(own_model, [])
    checkpoint = (
        next(reversed(there), None) if pd.isna(named) else named if named in there else None
    )
    return own_model, checkpoint, names.loc[name, "private_data"] == "yes"


def _group(quantity: str, quantities: list[str]) -> list[str]:
    """Return the columns that a mean is of: those since the mean before it; nothing for a score."""
    if not quantity.startswith("mean"):
        return []
    end = quantities.index(quantity)
    start = max(
        (index + 1 for index in range(end) if quantities[index].startswith("mean")), default=0
    )
    return quantities[start:end]


def _score(
    values: pd.DataFrame,
    model: str | None,
    checkpoint: str | None,
    quantities: list[tuple[str, str]],
) -> tuple[float, float | None] | None:
    """Return the run's value and standard error of a score, or of the mean of several.

    None where one of them is missing.
    """
    rows = []
    for task, metric in quantities:
        key = (model, checkpoint, task, metric)
        if key not in values.index:
            return None
        row = values.loc[key]
        rows.append(row.iloc[0] if isinstance(row, pd.DataFrame) else row)
    errors = [row["stderr"] for row in rows]
    error = (
        None
        if any(pd.isna(stderr) for stderr in errors)
        else math.sqrt(sum(float(stderr) ** 2 for stderr in errors)) / len(errors)
    )
    return sum(float(row["value"]) for row in rows) / len(rows), error


def _compare(
    published: float, measured: tuple[float, float | None] | None, doubtful: bool, private: bool
) -> dict[str, Any]:
    """Return ours, its error, the difference and the status of a published number."""
    if measured is None:
        status = "contradicts itself" if doubtful else PRIVATE if private else "not run"
        return {"ours": None, "stderr": None, "standard_errors": None, "status": status}
    value, error = measured
    apart = None if not error else (value - published) / error
    near = abs(value - published) < 5e-5 if apart is None else abs(apart) <= STANDARD_ERRORS
    status = "confirmed" if near else "differs"
    return {
        "ours": value,
        "stderr": error,
        "standard_errors": None if apart is None else round(apart, 2),
        "status": status,
    }
