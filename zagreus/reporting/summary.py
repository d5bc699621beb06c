"""The scores in short, for a terminal."""

from __future__ import annotations

import pandas as pd

from zagreus.reporting.cells import score_grids
from zagreus.reporting.checks import checks

WIDTH = 100


def score_lines(scores: pd.DataFrame) -> list[str]:
    """Return a table for each suite, models down and tasks across, cut into blocks that fit a
    terminal. `~`: not above chance.
    """
    lines: list[str] = []
    for grid in score_grids(scores):
        names = [f"{model} {checkpoint}" for model, checkpoint, _ in grid.rows]
        first = max(map(len, [*names, "majority class"]))
        per_block = max(
            1,
            (WIDTH - first)
            // (2 + max(max(len(column.task), len(column.metric)) for column in grid.columns)),
        )
        for start in range(0, len(grid.columns), per_block):
            columns = grid.columns[start : start + per_block]
            widths = [max(7, len(column.task), len(column.metric)) for column in columns]
            lines += ["", f"{grid.language} ({grid.suites})"]
            for heads in (
                [column.task for column in columns],
                [column.metric for column in columns],
            ):
                lines.append(
                    " " * first
                    + "".join(
                        f"  {head:>{width}}" for head, width in zip(heads, widths, strict=True)
                    )
                )
            for label, values in (
                ("chance", [c.chance for c in columns]),
                ("majority class", [c.majority_baseline for c in columns]),
            ):
                if any(value != "–" for value in values):
                    lines.append(
                        f"{label:{first}}"
                        + "".join(
                            f"  {value:>{width}}"
                            for value, width in zip(values, widths, strict=True)
                        )
                    )
            for name, (_, _, row) in zip(names, grid.rows, strict=True):
                cells = [
                    "" if cell is None else ("~" if cell.above is False else "") + cell.value
                    for cell in row[start : start + per_block]
                ]
                if any(cells):
                    lines.append(
                        f"{name:{first}}"
                        + "".join(
                            f"  {cell:>{width}}" for cell, width in zip(cells, widths, strict=True)
                        )
                    )
    return [*lines, "", "~ not above chance and the majority-class baseline by two standard errors"]


def check_lines(scores: pd.DataFrame, models: pd.DataFrame) -> list[str]:
    """Return a line for each check, and one for each case that fails."""
    lines = []
    for check in checks(scores, models):
        state = {True: "yes", False: "NO", None: "not measured"}[check.passed]
        lines.append(f"{check.claim}: {state}" + (f" ({check.tally})" if check.cases else ""))
        lines += [
            f"  not so: {case.label}: {case.detail}" for case in check.cases if not case.passed
        ]
    return lines
