"""Figures of scores.

Against the checkpoint, and of finished models beside one another, with what was published of the
same tasks.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from zagreus.languages import language_name
from zagreus.reporting import style
from zagreus.reporting.at_chance import tasks_at_chance
from zagreus.reporting.published import headline_metrics
from zagreus.reporting.style import Drawn
from zagreus.reporting.tables import floor

BAND = "Band: ±2 SE."
HOLLOW = "Hollow: the published numbers."


def progress(
    scores: pd.DataFrame, models: pd.DataFrame, replication: pd.DataFrame, looks: dict, folder: Path
) -> list[Drawn]:
    """One panel per base model, of the tasks in its own languages, as figures 1 to 4 of the
    published report; then one per task that several base models take.

    A task at chance for every model has no figure of its own, and is in a base model's panel only
    if the published figure has it.
    """
    metrics, at_chance = headline_metrics(scores), tasks_at_chance(scores)
    base = scores[(scores["kind"] == "base") & (scores["metric"] == scores["task"].map(metrics))]
    drawn = []
    for model, model_rows in base.groupby("model", sort=False):
        # The published figures leave out English, which all four share.
        own = (
            model_rows[model_rows["language"] != "eng"]
            if (model_rows["language"] != "eng").any()
            else model_rows
        )
        if own["step"].nunique() < 2:
            continue
        published = replication[(replication["model"] == model) & replication["step"].notna()]
        is_published = own["task"].isin(set(published["task"].dropna()))
        keep = is_published | ~own["task"].isin(at_chance)
        own, is_published = own[keep], is_published[keep]
        if own.empty:
            continue
        first, *further = (
            [own[is_published], *_parts(own[~is_published])] if is_published.any() else _parts(own)
        )
        drawn.append(_course(str(model), first, models, published, metrics, folder))
        for number, rows in enumerate(further, start=2):
            drawn.append(_course(str(model), rows, models, published, metrics, folder, number))
    for task, rows in base.groupby("task", sort=False):
        if rows["step"].nunique() < 2 or rows["model"].nunique() < 2 or task in at_chance:
            continue
        figure, axes = style.panel()
        for model, line in rows.groupby("model", sort=False):
            style.line(axes, line, looks[model], model)
        style.reference(axes, _floor(rows), "no skill")
        style.steps(axes, rows["step"])
        style.heading(axes, f"{task}, {metrics[task]}")
        language, n = rows["language"].iloc[0], rows["n"].iloc[0]
        caption = (
            f"{task} ({language}, n = {n}, {rows['num_fewshot'].iloc[0]}-shot). {BAND} Dashed: the "
            "better of chance and the majority-class baseline; a score whose band touches it "
            "says nothing."
        )
        data = rows[["model", "step", "value", "stderr", "chance", "majority_baseline"]]
        drawn.append(
            style.keep(
                figure, data, folder, f"score_{task}", "scores", f"{task}, {metrics[task]}", caption
            )
        )
    return drawn


def _parts(own: pd.DataFrame) -> list[pd.DataFrame]:
    """Return a base model's scores in parts of as many tasks as a panel can tell apart."""
    tasks, most = list(dict.fromkeys(own["task"])), len(style.SERIES) - 1
    return [
        own[own["task"].isin(tasks[start : start + most])] for start in range(0, len(tasks), most)
    ]


def _course(
    model: str,
    own: pd.DataFrame,
    models: pd.DataFrame,
    published: pd.DataFrame,
    metrics: dict[str, str],
    folder: Path,
    part: int = 1,
) -> Drawn:
    """A base model's tasks against the step.

    The first panel has those of the published table, where there is one, and their mean.
    """
    figure, axes = style.panel(height=style.HEIGHT + 0.3)
    tasks = list(dict.fromkeys(own["task"]))
    looks = style.colours([*tasks, "mean"])
    data = [
        own.assign(source="this run")[
            ["source", "task", "metric", "step", "value", "stderr", "chance", "majority_baseline"]
        ]
    ]
    seen = False
    for task in tasks:
        line = own[own["task"] == task]
        style.line(axes, line, looks[task], f"{task}, {metrics[task]}")
        level = _floor(line)
        if level is not None:
            axes.axhline(level, color=looks[task][0], linewidth=1.1, linestyle=(0, (1, 2)))
        points = published[
            (published["task"] == task) & (published["metric"] == metrics[task])
        ].sort_values("step")
        if len(points):
            seen = True
            style.hollow(axes, points["step"].astype(float), points["published"], looks[task])
            data.append(_as_rows(points, task, metrics[task]))
    if len(tasks) > 1 and part == 1:
        mean = _mean(own)
        style.line(axes, mean, looks["mean"], "mean", linewidth=1.3)
        data.append(mean.assign(source="this run", task="mean", metric="mean"))
        points = published[published["quantity"] == "mean"].sort_values("step")
        if len(points) and seen:
            style.hollow(axes, points["step"].astype(float), points["published"], looks["mean"])
            data.append(_as_rows(points, "mean", "mean"))
    style.steps(axes, own["step"])
    title = models.loc[models["model"] == model, "title"].iloc[0]
    style.heading(axes, f"{model}: score against checkpoint{f', {part}' if part > 1 else ''}")
    sizes = ", ".join(str(own.loc[own["task"] == task, "n"].iloc[0]) for task in tasks)
    caption = f"{title}, n = {sizes}. {BAND} Dotted: the better of chance and of "
    caption += "the majority-class baseline, in the task’s colour. "
    caption += HOLLOW if seen else "No published number is of these tasks."
    file, named = (
        (f"checkpoints_{model}", f"{model}, by checkpoint")
        if part == 1
        else (f"checkpoints_{model}_{part}", f"{model}, by checkpoint, {part}")
    )
    return style.keep(
        figure, pd.concat(data, ignore_index=True), folder, file, "scores", named, caption
    )


def _as_rows(points: pd.DataFrame, task: str, metric: str) -> pd.DataFrame:
    rows = points[["step", "published"]].rename(columns={"published": "value"})
    return rows.assign(source="published", task=task, metric=metric)


def _mean(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the mean over the tasks at each step that has them all.

    Step, value, stderr (of independent tasks).
    """
    tasks = rows["task"].nunique()
    means = []
    for step, step_rows in rows.groupby("step"):
        if len(step_rows) == tasks:
            error = np.sqrt((step_rows["stderr"].astype(float) ** 2).sum(skipna=False)) / tasks
            means.append({"step": step, "value": step_rows["value"].mean(), "stderr": error})
    return pd.DataFrame(means, columns=["step", "value", "stderr"])


def comparison(
    scores: pd.DataFrame, models: pd.DataFrame, replication: pd.DataFrame, looks: dict, folder: Path
) -> list[Drawn]:
    """Finished models.

    The post-trained ones by language and on average, as figures 6 to 8 of the published report, the
    tasks of its figure 5, and one panel per task of every model, but for the tasks at chance.
    """
    metrics, at_chance = headline_metrics(scores), tasks_at_chance(scores)
    last = models.groupby("model", sort=False)["checkpoint"].last()
    quoted = scores["metric"] == scores["task"].map(metrics)
    rows = scores[
        quoted & (scores["checkpoint"].astype(str) == scores["model"].map(last).astype(str))
    ]
    company = _company(models)
    drawn = []
    posttrained_tasks = set(rows.loc[rows["kind"] == "posttrained", "task"])
    compared, published = (
        rows[rows["model"].isin(company) & rows["task"].isin(posttrained_tasks)],
        replication[replication["table"].isin([6, 7])],
    )
    for language, language_rows in compared.groupby("language", sort=False):
        title = f"Post-trained, {language_name(str(language))}"
        drawn.append(
            _by_task(
                language_rows, metrics, published, looks, folder, f"posttrained_{language}", title
            )
        )
    together = _together(compared, metrics, published, looks, folder)
    drawn += [together] if together else []
    drawn += _extended(
        scores[quoted], rows, metrics, replication[replication["table"] == 5], folder
    )
    for task, cells in rows.groupby("task", sort=False):
        if len(cells) >= 2 and task not in at_chance:
            drawn.append(_by_model(str(task), cells, metrics[str(task)], looks, folder))
    return drawn


def _extended(
    scores: pd.DataFrame,
    last: pd.DataFrame,
    metrics: dict[str, str],
    replication: pd.DataFrame,
    folder: Path,
) -> list[Drawn]:
    """The Portuguese tasks of the published figure 5, at its and our checkpoints."""
    named = set(zip(replication["model"], replication["checkpoint"].astype(str), strict=True))
    shown = [
        pair in named
        for pair in zip(scores["model"], scores["checkpoint"].astype(str), strict=True)
    ]
    rows = pd.concat([scores[shown], last]).drop_duplicates(
        ["model", "checkpoint", "task", "metric"]
    )
    rows = rows[rows["task"].isin(set(replication["task"].dropna()))].sort_values(
        ["model", "step"], kind="stable"
    )
    if rows.empty:
        return []
    rows, published = (
        table.assign(model=table["model"].str.cat(table["checkpoint"].astype(str), sep=" "))
        for table in (rows, replication)
    )
    looks = style.colours(dict.fromkeys(rows["model"]))
    return [
        _by_task(
            rows, metrics, published, looks, folder, "extended_por", "Portuguese, further tasks"
        )
    ]


def _company(models: pd.DataFrame) -> list[str]:
    """Return the post-trained models, the ones they are made from, and the baselines."""
    after = models[models["kind"] == "posttrained"]
    parents = set(after["parent"].dropna())
    return [
        model
        for model, kind in zip(models["model"], models["kind"])
        if kind != "base" or model in parents
    ]


def _by_task(
    rows: pd.DataFrame,
    metrics: dict[str, str],
    published: pd.DataFrame,
    looks: dict,
    folder: Path,
    file: str,
    title: str,
) -> Drawn:
    """Tasks down, a mark for each model beside one another."""
    tasks, models = list(dict.fromkeys(rows["task"])), list(dict.fromkeys(rows["model"]))
    figure, axes = style.panel(
        height=1.2 + 0.3 * len(models) / 2 + len(tasks) * (0.3 + 0.17 * len(models))
    )
    data = [
        rows.assign(source="this run")[
            [
                "source",
                "task",
                "metric",
                "model",
                "checkpoint",
                "value",
                "stderr",
                "chance",
                "majority_baseline",
            ]
        ]
    ]
    seen = False
    for number, model in enumerate(models):
        shift = 0.72 * ((number + 0.5) / len(models) - 0.5)
        model_rows = rows[rows["model"] == model]
        places = [tasks.index(task) + shift for task in model_rows["task"]]
        colour, marker = looks[model]
        errors = 2 * model_rows["stderr"].astype(float).fillna(0)
        axes.errorbar(
            model_rows["value"],
            places,
            xerr=errors,
            fmt=marker,
            color=colour,
            elinewidth=1.8,
            capsize=0,
            label=model,
        )
        for task in tasks:
            same = (
                (published["task"] == task)
                & (published["metric"] == metrics[task])
                & (published["model"] == model)
            )
            points = published[same].drop_duplicates(["row", "quantity"])
            if len(points):
                seen = True
                style.hollow(
                    axes,
                    points["published"],
                    [tasks.index(task) + shift] * len(points),
                    looks[model],
                )
                data.append(
                    points[["model", "published"]]
                    .rename(columns={"published": "value"})
                    .assign(source="published", task=task, metric=metrics[task])
                )
    for position, task in enumerate(tasks):
        level = _floor(rows[rows["task"] == task])
        if level is not None:
            axes.plot(
                [level, level],
                [position - 0.42, position + 0.42],
                color=style.REFERENCE,
                linewidth=1.2,
                linestyle=(0, (4, 2)),
            )
    axes.set_yticks(range(len(tasks)), [f"{task}\n{metrics[task]}" for task in tasks])
    axes.set_ylim(len(tasks) - 0.5, -0.5)
    style.across(axes)
    style.heading(axes, title)
    caption = (
        "Last checkpoints, ±2 SE. Dashed: the better of chance and of the "
        f"majority-class baseline. {HOLLOW if seen else ''}"
    ).strip()
    return style.keep(
        figure, pd.concat(data, ignore_index=True), folder, file, "comparison", title, caption
    )


def _together(
    rows: pd.DataFrame, metrics: dict[str, str], published: pd.DataFrame, looks: dict, folder: Path
) -> Drawn | None:
    """The mean over the tasks of each language, and over both, of the models that take all of them.

    Published means of the same tasks.
    """
    quoted = published[published["metric"] == published["task"].map(metrics)].drop_duplicates(
        ["model", "task"]
    )
    languages = [
        language
        for language, group in rows.groupby("language", sort=False)
        if group["task"].nunique() >= 1
    ]
    if len(languages) < 2:
        return None
    means = []
    for model, group in rows.groupby("model", sort=False):
        for label, members in [
            *((language, [language]) for language in languages),
            ("together", languages),
        ]:
            tasks = set(rows.loc[rows["language"].isin(members), "task"])
            cells = group[group["task"].isin(tasks)]
            if set(cells["task"]) == tasks:
                error = np.sqrt((cells["stderr"].astype(float) ** 2).sum(skipna=False)) / len(cells)
                value = cells["value"].mean()
                means.append(
                    {
                        "source": "this run",
                        "model": model,
                        "mean": label,
                        "tasks": len(cells),
                        "value": value,
                        "stderr": error,
                    }
                )
            points = quoted[(quoted["model"] == model) & quoted["task"].isin(tasks)]
            if set(points["task"]) == tasks:
                value = points["published"].mean()
                means.append(
                    {
                        "source": "published",
                        "model": model,
                        "mean": label,
                        "tasks": len(points),
                        "value": value,
                    }
                )
    if not means:
        return None
    data = pd.DataFrame(means)
    labels, models = [*languages, "together"], list(dict.fromkeys(data["model"]))
    figure, axes = style.panel(
        height=1.3 + 0.17 * len(models) + len(labels) * (0.3 + 0.17 * len(models))
    )
    for number, model in enumerate(models):
        shift = 0.72 * ((number + 0.5) / len(models) - 0.5)
        colour, marker = looks[model]
        group = data[(data["model"] == model) & (data["source"] == "this run")]
        places = [labels.index(label) + shift for label in group["mean"]]
        axes.errorbar(
            group["value"],
            places,
            xerr=2 * group["stderr"].fillna(0),
            fmt=marker,
            color=colour,
            elinewidth=1.8,
            label=model,
        )
        points = data[(data["model"] == model) & (data["source"] == "published")]
        style.hollow(
            axes,
            points["value"],
            [labels.index(label) + shift for label in points["mean"]],
            looks[model],
        )
    axes.set_yticks(range(len(labels)), [language_name(label) for label in labels])
    axes.set_ylim(len(labels) - 0.5, -0.5)
    style.across(axes)
    title = "Post-trained, means over tasks"
    style.heading(axes, title)
    caption = (
        "Mean over the tasks of a language, and over all, ±2 SE; only models that take every "
        "one of those tasks."
    )
    if (data["source"] == "published").any():
        caption = f"{caption} {HOLLOW}"
    return style.keep(figure, data, folder, "posttrained_mean", "comparison", title, caption)


def _by_model(task: str, cells: pd.DataFrame, metric: str, looks: dict, folder: Path) -> Drawn:
    """Every model on one task."""
    figure, axes = style.panel(height=0.95 + 0.3 * len(cells))
    for i, row in enumerate(cells.itertuples()):
        colour, marker = looks[row.model]
        error = 0 if pd.isna(row.stderr) else 2 * row.stderr
        axes.errorbar(
            row.value,
            i,
            xerr=error,
            fmt=marker,
            color=colour,
            markersize=6,
            elinewidth=2,
            capsize=0,
        )
    level = _floor(cells)
    if level is not None:
        axes.axvline(level, color=style.REFERENCE, linewidth=1.2, linestyle=(0, (5, 3)))
    axes.set_yticks(range(len(cells)), list(cells["model"]))
    axes.set_ylim(len(cells) - 0.5, -0.5)
    style.across(axes)
    style.heading(axes, f"{task}, {metric}")
    caption = (
        f"Last checkpoints and baselines on {task} ({cells['language'].iloc[0]}), ±2 SE. "
        "Dashed: chance or majority-class baseline."
    )
    data = cells[["model", "checkpoint", "value", "stderr", "chance", "majority_baseline", "n"]]
    return style.keep(
        figure, data, folder, f"compare_{task}", "comparison", f"{task}, all models", caption
    )


def _floor(rows: pd.DataFrame) -> float | None:
    first: Any = rows.iloc[0]
    return floor(first["chance"], first["majority_baseline"], bool(first["higher_is_better"]))
