"""The figures of a run, from its tables alone.

One panel is one SVG file, so that each can be read at phone width.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from zagreus.languages import language_name
from zagreus.reporting import style
from zagreus.reporting.checks import bits_per_byte
from zagreus.reporting.exports import export_figure
from zagreus.reporting.long_context import position_figure
from zagreus.reporting.score_figures import comparison, progress
from zagreus.reporting.style import Drawn

# A curve is drawn with at most this many points, each the mean of its share of the steps.
POINTS = 300


def draw(tables: dict[str, pd.DataFrame], folder: Path) -> list[Drawn]:
    """Draw every figure that the tables hold data for, and write `index.json`.

    Args:
        tables: scores, training, models, replication, exports.
        folder: the folder of the figures; its index lists them in the report's order.
    """
    scores, training, models = tables["scores"], tables["training"], tables["models"]
    replication, exports = tables["replication"], tables["exports"]
    with matplotlib.rc_context(style.RC):
        looks = style.colours(dict.fromkeys(models["model"]))
        drawn = [
            *_training(training, looks, folder),
            *_heldout(scores, models, looks, folder),
            *position_figure(scores, looks, folder),
            *progress(scores, models, replication, looks, folder),
            *comparison(scores, models, replication, looks, folder),
            *export_figure(exports, looks, folder),
        ]
    (folder / "index.json").write_text(
        json.dumps([asdict(figure) for figure in drawn], indent=2) + "\n", encoding="utf-8"
    )
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
        (
            "loss",
            "Training loss",
            "nats per token",
            "Loss of each optimizer step, against the tokens trained on. Points: loss on "
            "held-out text.",
        ),
        (
            "learning_rate",
            "Learning rate",
            "",
            "Warm-up, stable phase, decay. The models follow the same schedule where one line "
            "hides the others.",
        ),
        (
            "grad_norm",
            "Gradient norm",
            "before clipping",
            "Norm of the whole gradient before clipping; logarithmic.",
        ),
    )
    for column, title, unit, caption in curves:
        if pretrain[column].notna().any():
            figure, axes = style.panel()
            data = []
            for model, whole in pretrain.groupby("model", sort=False):
                rows = thin(whole[["tokens", column]].astype(float))
                axes.plot(
                    rows["tokens"], rows[column], color=looks[model][0], label=model, linewidth=1.5
                )
                data.append(rows.assign(model=model))
                looks_at = whole[whole["heldout_loss"].notna()] if column == "loss" else whole[:0]
                if len(looks_at):
                    looks_at = looks_at[["tokens", "heldout_loss"]].astype(float)
                    axes.plot(
                        looks_at["tokens"],
                        looks_at["heldout_loss"],
                        "o",
                        color=looks[model][0],
                        markersize=4,
                    )
                    data.append(looks_at.assign(model=model))
            axes.set_xlabel("tokens")
            axes.xaxis.set_major_formatter(FuncFormatter(style.millions))
            axes.xaxis.set_major_locator(MaxNLocator(5))
            if column == "grad_norm":
                _logarithmic(axes)
            style.heading(axes, title + (f", {unit}" if unit else ""))
            drawn.append(
                style.keep(figure, pd.concat(data), folder, column, "training", title, caption)
            )
    for stage, title in (
        ("sft", "Supervised fine-tuning, loss"),
        ("dpo", "Preference optimization, loss"),
        ("distill", "Distillation, KL from the teacher"),
    ):
        rows = training[training["stage"] == stage]
        if rows.empty:
            continue
        figure, axes = style.panel()
        data = []
        for model, log in rows.groupby("model", sort=False):
            log = thin(log[["step", "loss"]].astype(float))
            axes.plot(log["step"], log["loss"], color=looks[model][0], label=model, linewidth=1.5)
            data.append(log.assign(model=model))
        axes.set_xlabel("optimizer step")
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        style.heading(axes, title)
        caption = "Loss of each logged step of post-training."
        drawn.append(
            style.keep(
                figure,
                pd.concat(data),
                folder,
                f"posttrain_{stage}",
                "posttraining",
                title,
                caption,
            )
        )
    return drawn


def _heldout(scores: pd.DataFrame, models: pd.DataFrame, looks: dict, folder: Path) -> list[Drawn]:
    bits = bits_per_byte(scores, models)
    if bits.empty:
        return []
    drawn = [_matrix(bits, folder)]
    for task, rows in bits.groupby("task", sort=False):
        language = language_name(str(rows["language"].iloc[0]))
        figure, axes = style.panel()
        for model, line in rows.groupby("model", sort=False):
            own = bool(line["own"].iloc[0])
            style.line(
                axes,
                line,
                looks[model],
                model,
                linestyle="-" if own else (0, (2, 2)),
                linewidth=2.2 if own else 1.3,
            )
        style.reference(axes, rows["majority_baseline"].iloc[0], "byte unigram")
        style.steps(axes, rows["step"])
        style.heading(axes, f"Bits per byte, {language}")
        caption = (
            f"Text in {language} held out from training. Less is better. Solid: trained "
            "for this language; dashed: not. Band: ±2 SE."
        )
        data = rows[["model", "step", "own", "value", "stderr", "majority_baseline"]]
        drawn.append(
            style.keep(
                figure,
                data,
                folder,
                f"bits_{task}",
                "heldout",
                f"Bits per byte, {language}",
                caption,
            )
        )
    return drawn


def _matrix(bits: pd.DataFrame, folder: Path) -> Drawn:
    """Models by languages.

    Each column is coloured by how far a model is above the best of the column.
    """
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
                matplotlib.patches.Rectangle(
                    (j - 0.46, i - 0.43),
                    0.92,
                    0.86,
                    facecolor=style.SERIES[0],
                    alpha=shade,
                    linewidth=0,
                )
            )
            if (model, task) in own:
                axes.add_patch(
                    matplotlib.patches.Rectangle(
                        (j - 0.46, i - 0.43),
                        0.92,
                        0.86,
                        fill=False,
                        edgecolor=style.INK,
                        linewidth=1.3,
                    )
                )
            axes.text(
                j,
                i,
                f"{value:.3f}",
                ha="center",
                va="center",
                fontweight="bold" if best else "normal",
                fontsize=10.5,
            )
    axes.set_xticks(range(len(tasks)), [languages[task] for task in tasks])
    axes.set_yticks(range(len(models)), models)
    axes.tick_params(length=0, colors=style.INK)
    axes.xaxis.tick_top()
    axes.grid(False)
    axes.set_title("Bits per byte on held-out text", pad=24)
    for spine in axes.spines.values():
        spine.set_visible(False)
    caption = (
        "Bits per byte on held-out text, last checkpoints; rows are models, columns languages. "
        "Less is better: the best of a column is bold and darkest. Outlined: languages the model "
        "was trained for."
    )
    data = last[["model", "checkpoint", "task", "language", "own", "value", "stderr"]]
    return style.keep(
        figure, data, folder, "matrix", "heldout", "Who knows which language", caption
    )


def _logarithmic(axes) -> None:  # type: ignore[no-untyped-def]
    """A logarithmic axis with plain numbers at 1, 2 and 5."""
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(style.millions))
    axes.yaxis.set_minor_locator(NullLocator())
