"""How the figures look.

One palette, sizes that stay readable at phone width, and SVG with the same bytes each time.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from zagreus.reporting.tables import write_csv

# One panel is one file of this width in inches: 442 CSS pixels, so that a phone (about 360 pixels
# of text width) shows it at 0.8 of its size and 11 point text stays above 11 pixels.
WIDTH, HEIGHT = 4.6, 3.1

INK, MUTED, RULE = "#20242c", "#6a7280", "#dfe2e8"

# Told apart by hue and, for those who do not see hues, by lightness; markers differ as well. The
# report gives each a second value for its dark scheme (report.css), by way of these very codes.
SERIES = ("#0f7b63", "#c2500f", "#7647b8", "#1f66b1", "#a8841a", "#b3346c", "#4d6f2f", "#5b6472")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
REFERENCE = "#8b3a3a"

RC: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "zagreus",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 10.5,
    "axes.titlesize": 11.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 10.5,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "legend.fontsize": 10,
    "legend.handlelength": 1.4,
    "legend.columnspacing": 1.2,
    "legend.handletextpad": 0.5,
    "lines.linewidth": 1.8,
    "lines.markersize": 5,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}


def colours(models: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Return {model: (colour, marker)}, the same in every figure of a run."""
    return {
        model: (SERIES[i % len(SERIES)], MARKERS[i % len(MARKERS)])
        for i, model in enumerate(models)
    }


def panel(height: float = HEIGHT) -> tuple[Figure, Axes]:
    """Return an empty panel."""
    return plt.subplots(figsize=(WIDTH, height), layout="constrained")


def heading(axes: Axes, title: str) -> None:
    """Put the title above the panel and the legend between the two, where it covers no data.

    Call it after drawing.
    """
    handles, labels = axes.get_legend_handles_labels()
    columns = _legend_columns(labels)
    rows = -(-len(labels) // columns)
    axes.set_title(title, pad=7 + 14.5 * rows)
    if labels:
        axes.legend(
            handles,
            labels,
            loc="lower left",
            bbox_to_anchor=(-0.015, 1.0),
            ncols=columns,
            borderaxespad=0,
            labelspacing=0.25,
        )


def _legend_columns(labels: list[str]) -> int:
    """Return how many columns of a legend fit a panel of 300 points.

    A label takes about 6 a character and 36 for line and gap.
    """
    for columns in range(len(labels), 1, -1):
        rows = -(-len(labels) // columns)
        if (
            sum(
                6 * max(map(len, labels[start : start + rows])) + 36
                for start in range(0, len(labels), rows)
            )
            <= 300
        ):
            return -(-len(labels) // rows)
    return 1


def millions(value: float, _position: int | None = None) -> str:
    """Return a count for an axis: 1500000 as 1.5M."""
    for size, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"


def line(axes: Axes, rows: pd.DataFrame, look: tuple[str, str], label: str, **drawn: Any) -> None:
    """Draw `value` against `step` with a band of two standard errors (`stderr`)."""
    rows = rows.sort_values("step")
    step, value = rows["step"].astype(float), rows["value"].astype(float)
    error = 2 * rows["stderr"].astype(float).fillna(0)
    axes.fill_between(step, value - error, value + error, color=look[0], alpha=0.13, linewidth=0)
    axes.plot(step, value, color=look[0], marker=look[1], label=label, **drawn)


def hollow(axes: Axes, x: Any, y: Any, look: tuple[str, str]) -> None:
    """Draw points that are not of this run."""
    axes.plot(
        x,
        y,
        color=look[0],
        marker=look[1],
        markerfacecolor="none",
        markersize=6,
        linestyle="none",
        markeredgewidth=1.2,
    )


def reference(axes: Axes, value: float | None, label: str) -> None:
    """Draw a level to compare with, where there is one."""
    if value is not None and not pd.isna(value):
        axes.axhline(value, color=REFERENCE, linewidth=1.2, linestyle=(0, (5, 3)), label=label)


def steps(axes: Axes, values: pd.Series) -> None:
    """Name the axis of steps; ticks at the checkpoints where there are few of them."""
    axes.set_xlabel("step")
    decimals = sorted(set(values.astype(int)))
    if len(decimals) <= 6:
        axes.set_xticks(decimals)
        axes.margins(x=0.06)
    axes.xaxis.set_major_formatter(FuncFormatter(millions))


def across(axes: Axes) -> None:
    """Names down, values across: a grid for the values alone."""
    axes.tick_params(axis="y", colors=INK)
    axes.grid(axis="x")
    axes.grid(axis="y", visible=False)
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(5))


@dataclass
class Drawn:
    """A figure that was written: file name, the section of the report that shows it, what it shows.

    Its numbers are in a CSV beside it.
    """

    file: str
    section: str
    title: str
    caption: str


def save(figure: Figure, path: Path) -> None:
    """Write a figure as SVG without date or maker, then forget it."""
    figure.savefig(
        path,
        format="svg",
        metadata={"Date": None, "Creator": None, "Format": None, "Type": None},
    )
    plt.close(figure)


def keep(
    figure: Figure,
    data: pd.DataFrame,
    folder: Path,
    name: str,
    section: str,
    title: str,
    caption: str,
) -> Drawn:
    """Write a figure as `save` does, and beside it the numbers that it shows as CSV."""
    save(figure, folder / f"{name}.svg")
    write_csv(data, folder / f"{name}.csv")
    return Drawn(f"{name}.svg", section, title, caption)
