"""The ladder in the report: its figure, its rungs, and the prediction beside the trained model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.ticker import FuncFormatter, NullFormatter

from zagreus.reporting import style
from zagreus.reporting.inline import inline_svg
from zagreus.reporting.lineage import Lineage

FIGURE = "ladder.svg"
TITLE = "Held-out loss by tokens, one line for each size"


def draw(fit: Mapping[str, Any], rungs: pd.DataFrame, path: Path) -> None:
    """Draw the rungs, the fitted law, and the prediction with its interval.

    Args:
        fit: the manifest that fit_ladder wrote.
        rungs: rungs.csv beside it.
        path: the SVG file.
    """
    law, prediction = fit["law"], fit["prediction"]
    figure, axes = style.panel()
    last = prediction["tokens"]
    tokens = np.geomspace(rungs["tokens"].min(), last, 60)
    sizes = sorted(rungs["parameters"].unique())
    looks = style.colours([str(size) for size in sizes])
    for size in sizes:
        rows = rungs[rungs["parameters"] == size]
        colour, marker = looks[str(size)]
        axes.plot(tokens, _loss(law, size, tokens), color=colour, linewidth=1.2)
        axes.plot(
            rows["tokens"],
            rows["loss"],
            color=colour,
            marker=marker,
            linestyle="none",
            label=style.millions(_rounded(size)),
        )
    below, above = (
        prediction["loss"] - prediction["low"],
        prediction["high"] - prediction["loss"],
    )
    size = prediction["parameters"]
    axes.plot(
        tokens,
        _loss(law, size, tokens),
        color=style.REFERENCE,
        linewidth=1.2,
        linestyle=(0, (5, 3)),
    )
    axes.errorbar(
        [last],
        [prediction["loss"]],
        yerr=[[below], [above]],
        color=style.REFERENCE,
        capsize=4,
        marker="o",
        label=f"{prediction['model']}, {style.millions(_rounded(size))}",
    )
    axes.set_xscale("log")
    ticks = sorted({*rungs["tokens"], last})
    axes.set_xticks(ticks)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: style.millions(_rounded(value))))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("tokens")
    axes.set_ylabel("held-out loss, nats a token")
    style.heading(axes, TITLE)
    style.save(figure, path)


def section(lineage: Lineage, training: pd.DataFrame) -> dict[str, Any] | None:
    """Return what the page says of the ladder; None in a run without one.

    Args:
        lineage: the run's manifests.
        training: the table of that name, for the held-out loss of the trained model.

    Returns:
        `fit` (the manifest), `path` (its own), `rungs`, `figure`, and `loss` and `inside` of the
        trained model: None where its held-out loss was not measured at the last step.
    """
    node = next(iter(lineage.of_kind("ladder")), None)
    if node is None:
        return None
    folder, prediction = Path(node.path).parent, node.manifest["prediction"]
    rows = training[
        (training["model"] == prediction["model"])
        & (training["stage"] == "pretrain")
        & (training["step"] == prediction["step"])
    ]["heldout_loss"].dropna()
    loss = float(rows.iloc[-1]) if len(rows) else None
    return {
        "fit": node.manifest,
        "path": node.path,
        "rungs": pd.read_csv(folder / "rungs.csv").to_dict("records"),
        "figure": Markup(inline_svg(folder / FIGURE, TITLE)),
        "loss": loss,
        "inside": None if loss is None else prediction["low"] <= loss <= prediction["high"],
    }


def _loss(law: Mapping[str, float], size: float, tokens: np.ndarray) -> np.ndarray:
    return law["E"] + law["A"] / size ** law["alpha"] + law["B"] / tokens ** law["beta"]


def _rounded(count: float) -> float:
    """Return a count with two digits, for a label."""
    return float(f"{count:.2g}")
