"""The layout of the published tables.

Rows are checkpoints or models, columns are `task:metric`, the last column is the mean.

Source of the layout: tables 1 to 7 of the published report, kept as CSV in `reference/` (its README
names the source). A base model's table has its own language only; a post-trained model's table has
each of its languages with a mean of each, and the baselines beside it.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from zagreus.errors import InputError
from zagreus.reporting.tables import Model

# The one metric by which a task is quoted, the first that it has: the published tables give
# acc_norm for HellaSwag and ARC, acc for MMLU, macro-F1 for the Portuguese tasks with labels.
HEADLINE = ("acc_norm", "f1_macro", "acc", "f1", "pearson", "prompt_level_strict_acc")


def headline_metrics(scores: pd.DataFrame) -> dict[str, str]:
    """Return {task: metric} of the tasks that a published table would quote.

    Tasks without such a metric (bits per byte) are left out.
    """
    headline = {}
    for task, metrics in scores.groupby("task", sort=False)["metric"]:
        present = set(metrics)
        metric = next((metric for metric in HEADLINE if metric in present), None)
        if metric is not None:
            headline[task] = metric
    return headline


def reference_columns(folder: Path | str, model: str) -> list[str]:
    """Return the `task:metric` columns of a model's published table, in its order.

    None where there is no published table of that model.

    Raises:
        InputError: `tables.csv` in the folder names a table that is not there.
    """
    index = pd.read_csv(Path(folder) / "tables.csv")
    columns: list[str] = []
    for file in index.loc[index["model"] == model, "file"]:
        table = Path(folder) / file
        if not table.is_file():
            raise InputError(f"{table}: no such file, {Path(folder) / 'tables.csv'} names it")
        columns += [column for column in pd.read_csv(table, nrows=0).columns if ":" in column]
    return columns


def published_table(
    scores: pd.DataFrame, model: Model, models: list[Model], reference: list[str]
) -> pd.DataFrame:
    """Return a model's scores in the published layout.

    Args:
        scores: the long table.
        model: whose table; the rows of a base model are its checkpoints, those of a post-trained
            one its stages, the base model it was made from and the baselines.
        models: the whole family.
        reference: columns of the published table; they come first, in that order, where the run has
            them, and the mean is of them alone.
    """
    metrics = headline_metrics(scores)
    quoted = scores[scores["metric"] == scores["task"].map(metrics)]
    languages = model["languages"]
    if model["kind"] == "base":
        # The published tables of the base models leave out English, which all four share.
        languages = [language for language in languages if language != "eng"] or languages
        shown = [(model["name"], checkpoint) for checkpoint in model["checkpoints"]]
    else:
        shown = _with_company(model, models)
    key = ["model", "checkpoint"]
    cells = quoted[
        [pair in set(shown) for pair in zip(quoted["model"], quoted["checkpoint"], strict=True)]
    ].copy()
    cells["column"] = cells["task"] + ":" + cells["metric"]
    language_of = dict(zip(cells["column"], cells["language"], strict=True))
    wide = cells.pivot(index=key, columns="column", values="value").reindex(
        pd.MultiIndex.from_tuples(shown, names=key)
    )
    table = wide.index.to_frame(index=False)
    table["step"] = pd.array(
        [int(name) if name.isdigit() else None for name in table["checkpoint"]], dtype="Int64"
    )
    for language in languages:
        language_columns = [column for column in language_of if language_of[column] == language]
        language_columns.sort(
            key=lambda column: reference.index(column) if column in reference else len(reference)
        )
        for column in language_columns:
            table[column] = wide[column].to_numpy()
        if language_columns:
            name = "mean" if len(languages) == 1 else f"mean_{language}"
            published = [
                column for column in language_columns if column in reference
            ] or language_columns
            table[name] = wide[published].mean(axis=1).round(6).to_numpy()
    return table


def _with_company(model: Model, models: list[Model]) -> list[tuple[str, str]]:
    named = {other["name"]: other for other in models}
    rows = [(model["name"], checkpoint) for checkpoint in model["checkpoints"]]
    if model["parent"] in named:
        rows.append((named[model["parent"]]["name"], named[model["parent"]]["checkpoints"][-1]))
    return rows + [
        (other["name"], other["checkpoints"][-1]) for other in models if other["kind"] == "baseline"
    ]
