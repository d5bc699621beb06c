"""How numbers are written on the page, and the tables of scores made of them."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from zagreus.reporting.published import headline_metrics
from zagreus.reporting.tables import floor

MINUS = "\u2212"
THIN_SPACE = "\u2009"


@dataclass
class Cell:
    """One score as it is shown.

    Value and standard error as text, and whether it is above its floor (None: not known).
    """

    value: str
    stderr: str
    above: bool | None
    metric: str


@dataclass
class Column:
    """One column of a table of scores."""

    task: str
    metric: str
    language: str
    n: str
    num_fewshot: str
    chance: str
    majority_baseline: str
    better: str


@dataclass
class Grid:
    """The scores in one language of suites that share tasks: models down, tasks across.

    A cell is None where a task was not taken.
    """

    suites: str
    language: str
    columns: list[Column]
    rows: list[tuple[str, str, list[Cell | None]]]


def number(value: float | None, digits: int = 3) -> str:
    """Return a number with a true minus sign and a fixed number of decimals.

    A dash where there is none.
    """
    if value is None or pd.isna(value):
        return "–"
    return f"{value:.{digits}f}".replace("-", MINUS)


def signed(value: float | None, digits: int = 3) -> str:
    """Return a number with its sign, plus or minus."""
    return (
        number(value, digits)
        if value is None or pd.isna(value) or value < 0
        else f"+{number(value, digits)}"
    )


def probability(value: float | None) -> str:
    """Return a p-value: three digits, or that it is smaller."""
    return "< 0.001" if value is not None and value < 0.001 else number(value)


def scientific(value: float) -> str:
    """Return a number as 3.8 × 10⁻⁶."""
    if value == 0:
        return "0"
    digits, exponent = f"{value:.1e}".split("e")
    superscript = str(int(exponent)).translate(str.maketrans("-0123456789", "\u207b⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{digits.replace('-', MINUS)}{THIN_SPACE}×{THIN_SPACE}10{superscript}"


def count(value: float | None) -> str:
    """Return a whole number with thin spaces between the thousands."""
    if value is None or pd.isna(value):
        return "–"
    return f"{int(value):,}".replace(",", THIN_SPACE)


def percent(value: float | None) -> str:
    """Return a share as per cent with two digits after the point; a dash where it is missing."""
    return "–" if value is None or pd.isna(value) else f"{100 * value:.2f} %"


def short(value: float | None) -> str:
    """Return a count with three digits and a unit: 1.97 M."""
    if value is None or pd.isna(value):
        return "–"
    for size, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{THIN_SPACE}{unit}"
    return f"{value:.0f}"


def duration(seconds: float | None) -> str:
    """Return a duration: 0.8 s, 45 s, 3 min 05 s, 2 h 04 min."""
    if seconds is None or pd.isna(seconds):
        return "–"
    if seconds < 10:
        return f"{seconds:.1f}{THIN_SPACE}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}{THIN_SPACE}s"
    if whole < 3600:
        return f"{whole // 60}{THIN_SPACE}min {whole % 60:02d}{THIN_SPACE}s"
    return f"{whole // 3600}{THIN_SPACE}h {whole % 3600 // 60:02d}{THIN_SPACE}min"


def memory(megabytes: float | None) -> str:
    """Return an amount of memory: 812 MB, 2.4 GB."""
    if megabytes is None or pd.isna(megabytes):
        return "–"
    return (
        f"{megabytes:.0f}{THIN_SPACE}MB"
        if megabytes < 1000
        else f"{megabytes / 1024:.1f}{THIN_SPACE}GB"
    )


def score_grids(scores: pd.DataFrame) -> list[Grid]:
    """Return the scores as grids.

    The last checkpoint of each base model, every stage of the post-trained ones, the baselines.

    A task that has a headline metric is shown by that one alone (scores.csv has the others), a task
    without by all it has.
    """
    headline = headline_metrics(scores)
    chosen = scores[
        [
            headline.get(task, metric) == metric
            for task, metric in zip(scores["task"], scores["metric"], strict=True)
        ]
    ]
    earlier = chosen.duplicated(["model", "suite", "task", "metric"], keep="last") & (
        chosen["kind"] == "base"
    )
    chosen = chosen[~earlier]
    return [
        _grid(", ".join(suites), language, rows)
        for suites in _connected(chosen)
        for language, rows in chosen[chosen["suite"].isin(suites)].groupby("language", sort=False)
    ]


def _connected(scores: pd.DataFrame) -> list[list[str]]:
    """Return the suites in groups.

    Those that score the same task (for different models) belong together.
    """
    tasks = {suite: set(names) for suite, names in scores.groupby("suite", sort=False)["task"]}
    groups: list[list[str]] = []
    for suite, suite_tasks in tasks.items():
        related = [group for group in groups if any(suite_tasks & tasks[other] for other in group)]
        groups = [group for group in groups if group not in related] + [
            [*(name for group in related for name in group), suite]
        ]
    return sorted(groups, key=lambda group: list(tasks).index(group[0]))


def _grid(suites: str, language: str, scores: pd.DataFrame) -> Grid:
    columns = []
    for row in scores.drop_duplicates(["task", "metric"]).itertuples():
        better = "more" if row.higher_is_better else "less"
        columns.append(
            Column(
                row.task,
                row.metric,
                language,
                count(row.n),
                str(row.num_fewshot),
                number(row.chance),
                number(row.majority_baseline),
                better,
            )
        )
    rows = []
    for (model, checkpoint), model_scores in scores.groupby(["model", "checkpoint"], sort=False):
        by_column = {(row.task, row.metric): row for row in model_scores.itertuples()}
        rows.append(
            (
                model,
                checkpoint,
                [_cell(by_column.get((column.task, column.metric))) for column in columns],
            )
        )
    return Grid(suites, language, columns, rows)


def _cell(row) -> Cell | None:  # type: ignore[no-untyped-def]
    if row is None:
        return None
    known = floor(
        row.chance, row.majority_baseline, bool(row.higher_is_better)
    ) is not None and not pd.isna(row.above_chance)
    return Cell(
        number(row.value),
        "" if pd.isna(row.stderr) else f"±{THIN_SPACE}{number(row.stderr)}",
        bool(row.above_chance) if known else None,
        row.metric,
    )
