"""Tasks at which no model of the run is better than chance: one line in a table, no figure."""

from __future__ import annotations

from typing import Any

import pandas as pd

from zagreus.reporting import cells
from zagreus.reporting.published import headline_metrics
from zagreus.reporting.tables import floor


def tasks_at_chance(scores: pd.DataFrame) -> list[str]:
    """Return the tasks whose headline metric is above its floor for no model and checkpoint.

    The floor is the better of a guess and the majority-class baseline. A task without a floor, or
    with a score without a standard error, is not among them: nothing is known of it.
    """
    metrics = headline_metrics(scores)
    quoted = scores[scores["metric"] == scores["task"].map(metrics)]
    tasks = []
    for task, rows in quoted.groupby("task", sort=False):
        above = rows["above_chance"]
        if above.notna().all() and not above.any():
            tasks.append(str(task))
    return tasks


def chance_rows(scores: pd.DataFrame) -> list[dict[str, Any]]:
    """Return one row per task at chance: task, language, metric, n, floor, range of scores."""
    metrics, rows = headline_metrics(scores), []
    for task in tasks_at_chance(scores):
        task_scores = scores[(scores["task"] == task) & (scores["metric"] == metrics[task])]
        first = task_scores.iloc[0]
        rows.append(
            {
                "task": task,
                "language": first["language"],
                "metric": metrics[task],
                "n": int(first["n"]),
                "floor": cells.number(
                    floor(
                        first["chance"], first["majority_baseline"], bool(first["higher_is_better"])
                    )
                ),
                "lowest": cells.number(task_scores["value"].min()),
                "highest": cells.number(task_scores["value"].max()),
                "scores": len(task_scores),
            }
        )
    return rows
