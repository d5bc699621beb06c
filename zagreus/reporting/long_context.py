"""Long contexts: the loss by position as a figure, the needles in long texts as tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from zagreus.languages import language_name
from zagreus.reporting import cells, style
from zagreus.reporting.style import Drawn

# How zagreus/evaluation/positions.py and the `cells` of recipes/evaluate/needle.yaml name metrics.
_RANGE = r"loss_(\d+)_(\d+)"
_CELL = r"acc_length_(\d+)_depth_(\d+)"


def last_scores(scores: pd.DataFrame, pattern: str) -> pd.DataFrame:
    """Return the scores whose metric has a form, of the last checkpoint of each model.

    The two numbers of the metric are in the columns `first` and `second`.
    """
    numbers = scores["metric"].str.extract(f"^{pattern}$")
    rows = scores.assign(first=numbers[0], second=numbers[1]).dropna(subset=["first", "second"])
    rows = rows.astype({"first": int, "second": int})
    return rows.drop_duplicates(["model", "task", "metric"], keep="last")


def position_figure(scores: pd.DataFrame, looks: dict, folder: Path) -> list[Drawn]:
    """Draw a panel for each task: the loss of each range of positions, a line for each model."""
    drawn = []
    for task, rows in last_scores(scores, _RANGE).groupby("task", sort=False):
        language = language_name(str(rows["language"].iloc[0]))
        figure, axes = style.panel()
        for model, unsorted in rows.groupby("model", sort=False):
            line = unsorted.sort_values("second")
            value = line["value"].astype(float)
            error = 2 * line["stderr"].astype(float).fillna(0)
            colour, marker = looks[model]
            axes.fill_between(
                line["second"], value - error, value + error, color=colour, alpha=0.13, linewidth=0
            )
            axes.plot(line["second"], value, color=colour, marker=marker, label=model)
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_locator(FixedLocator(sorted(set(rows["second"]))))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f}"))
        axes.set_xlabel("last position of the range, tokens")
        title = f"Loss by position, {language}"
        style.heading(axes, f"{title}, nats per token")
        caption = (
            f"The same {int(rows['n'].iloc[0])} held-out documents in {language} at every "
            "position, each as one window. Last checkpoints; a model is scored beyond its own "
            "context too. Band: ±2 SE."
        )
        data = rows[["model", "checkpoint", "task", "first", "second", "value", "stderr", "n"]]
        data = data.sort_values(["model", "second"], kind="stable")
        data = data.rename(columns={"first": "first_position", "second": "last_position"})
        drawn.append(style.keep(figure, data, folder, f"loss_{task}", "heldout", title, caption))
    return drawn


def needle_tables(scores: pd.DataFrame) -> list[dict[str, Any]]:
    """Return a table for each task and model: accuracy by length (down) and depth (across).

    `{task, language, model, checkpoint, chance, n, depths, rows: [(length, cells)]}`. A cell is
    (accuracy as text, metric), and None where the length has no such depth.
    """
    tables = []
    last = last_scores(scores, _CELL)
    for (task, model), rows in last.groupby(["task", "model"], sort=False):
        depths = sorted(set(rows["second"]))
        lines = []
        for length, line in rows.groupby("first"):
            by_depth = {
                row.second: (cells.number(row.value, 2), row.metric) for row in line.itertuples()
            }
            lines.append((length, [by_depth.get(depth) for depth in depths]))
        first = rows.iloc[0]
        tables.append(
            {
                "task": task,
                "language": first["language"],
                "model": model,
                "checkpoint": first["checkpoint"],
                "chance": cells.number(first["chance"], 2),
                "n": int(first["n"]),
                "depths": depths,
                "rows": lines,
            }
        )
    return tables
