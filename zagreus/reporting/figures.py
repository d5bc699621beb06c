"""The figures of a run, from its tables alone. One panel is one SVG file, so that each can be read at phone width."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from zagreus.reporting import style
from zagreus.reporting.published import headline_metrics
from zagreus.reporting.tables import floor
from zagreus.reporting.verdicts import bits_per_byte

# A curve is drawn with at most this many points, each the mean of its share of the steps.
POINTS = 300


@dataclass
class Drawn:
    """A figure that was written: file name, the section of the report that shows it, what it shows."""

    file: str
    section: str
    title: str
    caption: str


def draw(scores: pd.DataFrame, training: pd.DataFrame, models: pd.DataFrame, folder: Path) -> list[Drawn]:
    """Draw every figure that the tables hold data for, and `index.json`, the list of them in the report's order."""
    with matplotlib.rc_context(style.RC):
        looks = style.colours(dict.fromkeys(models["model"]))
        drawn = [
            *_training(training, looks, folder),
            *_heldout(scores, models, looks, folder),
            *_progress(scores, looks, folder),
            *_comparison(scores, models, looks, folder),
        ]
    (folder / "index.json").write_text(json.dumps([asdict(figure) for figure in drawn], indent=2) + "\n", encoding="utf-8")
    return drawn


def thin(frame: pd.DataFrame, points: int = POINTS) -> pd.DataFrame:
    """Return a log of at most `points` rows: means over equal shares of the rows."""
    if len(frame) <= points:
        return frame
    return frame.groupby(np.arange(len(frame)) * points // len(frame)).mean(numeric_only=True)


def _training(training: pd.DataFrame, looks: dict, folder: Path) -> list[Drawn]:
    drawn = []
    pretrain = training[training["stage"] == "pretrain"]
    curves = (
        ("loss", "Training loss", "nats per token", "Loss of each optimizer step, against the tokens trained on."),
        (
            "learning_rate",
            "Learning rate",
            "",
            "Warm-up, stable phase, decay. The models follow the same schedule where one line hides the others.",
        ),
        ("grad_norm", "Gradient norm", "before clipping", "Norm of the whole gradient before clipping; logarithmic."),
    )
    for column, title, unit, caption in curves:
        if pretrain[column].notna().any():
            figure, axes = style.panel()
            for model, rows in pretrain.groupby("model", sort=False):
                rows = thin(rows[["tokens", column]].astype(float))
                axes.plot(rows["tokens"], rows[column], color=looks[model][0], label=model, linewidth=1.5)
            axes.set_xlabel("tokens")
            axes.xaxis.set_major_formatter(FuncFormatter(style.millions))
            axes.xaxis.set_major_locator(MaxNLocator(5))
            if column == "grad_norm":
                _logarithmic(axes)
            style.heading(axes, title + (f", {unit}" if unit else ""))
            style.save(figure, folder / f"{column}.svg")
            drawn.append(Drawn(f"{column}.svg", "training", title, caption))
    for stage, title in (("sft", "Supervised fine-tuning, loss"), ("dpo", "Preference optimization, loss")):
        rows = training[training["stage"] == stage]
        if rows.empty:
            continue
        figure, axes = style.panel()
        for model, log in rows.groupby("model", sort=False):
            log = thin(log[["step", "loss"]].astype(float))
            axes.plot(log["step"], log["loss"], color=looks[model][0], label=model, linewidth=1.5)
        axes.set_xlabel("optimizer step")
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        style.heading(axes, title)
        style.save(figure, folder / f"posttrain_{stage}.svg")
        drawn.append(Drawn(f"posttrain_{stage}.svg", "posttraining", title, "Loss of each logged step of post-training."))
    return drawn


def _heldout(scores: pd.DataFrame, models: pd.DataFrame, looks: dict, folder: Path) -> list[Drawn]:
    bits = bits_per_byte(scores, models)
    if bits.empty:
        return []
    drawn = [_matrix(bits, folder)]
    for task, rows in bits.groupby("task", sort=False):
        language = rows["language"].iloc[0]
        figure, axes = style.panel()
        for model, line in rows.groupby("model", sort=False):
            own = bool(line["own"].iloc[0])
            _line(axes, line, looks[model], model, linestyle="-" if own else (0, (2, 2)), linewidth=2.2 if own else 1.3)
        _reference(axes, rows["constant"].iloc[0], "byte unigram")
        _steps(axes, rows["step"])
        style.heading(axes, f"Bits per byte, {language}")
        style.save(figure, folder / f"bits_{task}.svg")
        caption = (
            f"Text in {language} held apart from training. Less is better. Solid: trained for this language; dashed: not. Band: ±2 SE."
        )
        drawn.append(Drawn(f"bits_{task}.svg", "heldout", f"Bits per byte, {language}", caption))
    return drawn


def _matrix(bits: pd.DataFrame, folder: Path) -> Drawn:
    """Models by languages; each column is coloured by how far a model is above the best of the column."""
    last = bits.sort_values("step", kind="stable").groupby(["model", "task"], sort=False).tail(1)
    models, tasks = (list(dict.fromkeys(bits["model"])), list(dict.fromkeys(bits["task"])))
    languages = dict(zip(last["task"], last["language"], strict=True))
    values = last.pivot(index="model", columns="task", values="value").loc[models, tasks]
    own = {(row.model, row.task) for row in last.itertuples() if row.own}
    figure, axes = style.panel(height=0.9 + 0.48 * len(models))
    worse = values / values.min() - 1
    scale = max(float(np.nanmax(worse.to_numpy())), 1e-9)
    axes.set_xlim(-0.5, len(tasks) - 0.5)
    axes.set_ylim(len(models) - 0.5, -0.5)
    for i, model in enumerate(models):
        for j, task in enumerate(tasks):
            value = values.iloc[i, j]
            if pd.isna(value):
                continue
            best = worse.iloc[i, j] == 0
            shade = 0.05 + 0.5 * (1 - float(worse.iloc[i, j]) / scale)
            axes.add_patch(
                matplotlib.patches.Rectangle((j - 0.46, i - 0.43), 0.92, 0.86, facecolor=style.SERIES[0], alpha=shade, linewidth=0)
            )
            if (model, task) in own:
                axes.add_patch(
                    matplotlib.patches.Rectangle((j - 0.46, i - 0.43), 0.92, 0.86, fill=False, edgecolor=style.INK, linewidth=1.3)
                )
            axes.text(j, i, f"{value:.3f}", ha="center", va="center", fontweight="bold" if best else "normal", fontsize=10.5)
    axes.set_xticks(range(len(tasks)), [languages[task] for task in tasks])
    axes.set_yticks(range(len(models)), models)
    axes.tick_params(length=0, colors=style.INK)
    axes.xaxis.tick_top()
    axes.grid(False)
    axes.set_title("Bits per byte on held-apart text", pad=24)
    for spine in axes.spines.values():
        spine.set_visible(False)
    style.save(figure, folder / "matrix.svg")
    caption = (
        "Bits per byte on held-apart text, last checkpoints; rows are models, columns languages. Less is better: the best of a column "
        "is bold and darkest. Outlined: languages the model was trained for."
    )
    return Drawn("matrix.svg", "heldout", "Who knows which language", caption)


def _progress(scores: pd.DataFrame, looks: dict, folder: Path) -> list[Drawn]:
    """One panel per task: score against step, with a band of two standard errors and the line of chance."""
    metrics = headline_metrics(scores)
    drawn = []
    base = scores[(scores["kind"] == "base") & (scores["metric"] == scores["task"].map(metrics))]
    for task, rows in base.groupby("task", sort=False):
        if rows["step"].nunique() < 2:
            continue
        figure, axes = style.panel()
        for model, line in rows.groupby("model", sort=False):
            _line(axes, line, looks[model], model)
        _reference(axes, _floor(rows), "no skill")
        _steps(axes, rows["step"])
        style.heading(axes, f"{task}, {metrics[task]}")
        style.save(figure, folder / f"score_{task}.svg")
        language, n = rows["language"].iloc[0], rows["n"].iloc[0]
        caption = (
            f"{task} ({language}, n = {n}, {rows['shots'].iloc[0]} shots). Band: ±2 SE. Dashed: the better of chance and the best constant "
            "answer; a score whose band touches it says nothing."
        )
        drawn.append(Drawn(f"score_{task}.svg", "scores", f"{task}, {metrics[task]}", caption))
    return drawn


def _comparison(scores: pd.DataFrame, models: pd.DataFrame, looks: dict, folder: Path) -> list[Drawn]:
    """One panel per task: the last checkpoint of every model and the baselines, with two standard errors."""
    metrics = headline_metrics(scores)
    last = models.groupby("model", sort=False)["checkpoint"].last()
    rows = scores[
        (scores["metric"] == scores["task"].map(metrics)) & (scores["checkpoint"].astype(str) == scores["model"].map(last).astype(str))
    ]
    drawn = []
    for task, cells in rows.groupby("task", sort=False):
        if len(cells) < 2:
            continue
        figure, axes = style.panel(height=0.95 + 0.3 * len(cells))
        for i, row in enumerate(cells.itertuples()):
            colour, marker = looks[row.model]
            error = 0 if pd.isna(row.stderr) else 2 * row.stderr
            axes.errorbar(row.value, i, xerr=error, fmt=marker, color=colour, markersize=6, elinewidth=2, capsize=0)
        reference = _floor(cells)
        if reference is not None:
            axes.axvline(reference, color=style.REFERENCE, linewidth=1.2, linestyle=(0, (5, 3)))
        axes.set_yticks(range(len(cells)), list(cells["model"]))
        axes.set_ylim(len(cells) - 0.5, -0.5)
        axes.tick_params(axis="y", colors=style.INK)
        axes.grid(axis="x")
        axes.grid(axis="y", visible=False)
        axes.spines["left"].set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        style.heading(axes, f"{task}, {metrics[task]}")
        style.save(figure, folder / f"compare_{task}.svg")
        caption = f"Last checkpoints and baselines on {task} ({cells['language'].iloc[0]}), ±2 SE. Dashed: chance or best constant answer."
        drawn.append(Drawn(f"compare_{task}.svg", "comparison", f"{task}, all models", caption))
    return drawn


def _line(axes, rows: pd.DataFrame, look: tuple[str, str], label: str, **line) -> None:  # type: ignore[no-untyped-def]
    rows = rows.sort_values("step")
    step, value = rows["step"].astype(float), rows["value"].astype(float)
    error = 2 * rows["stderr"].astype(float).fillna(0)
    axes.fill_between(step, value - error, value + error, color=look[0], alpha=0.13, linewidth=0)
    axes.plot(step, value, color=look[0], marker=look[1], label=label, **line)


def _reference(axes, value: float | None, label: str) -> None:  # type: ignore[no-untyped-def]
    if value is not None and not pd.isna(value):
        axes.axhline(value, color=style.REFERENCE, linewidth=1.2, linestyle=(0, (5, 3)), label=label)


def _floor(rows: pd.DataFrame) -> float | None:
    first = rows.iloc[0]
    return floor(first["chance"], first["constant"], bool(first["higher_is_better"]))


def _logarithmic(axes) -> None:  # type: ignore[no-untyped-def]
    """A logarithmic axis with plain numbers at 1, 2 and 5."""
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(style.millions))
    axes.yaxis.set_minor_locator(NullLocator())


def _steps(axes, steps: pd.Series) -> None:  # type: ignore[no-untyped-def]
    """Ticks at the checkpoints where there are few of them."""
    axes.set_xlabel("step")
    found = sorted(set(steps.astype(int)))
    if len(found) <= 6:
        axes.set_xticks(found)
        axes.margins(x=0.06)
    axes.xaxis.set_major_formatter(FuncFormatter(style.millions))
