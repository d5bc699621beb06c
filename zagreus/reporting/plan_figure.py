"""The plan against what it took, as one picture. Its colours come from the page's style sheet."""

from __future__ import annotations

from html import escape

import pandas as pd

from zagreus.reporting import cells

WIDTH, LABEL, BAR, ROW, HEAD = 920, 110, 520, 34, 30
TITLES = {
    "rank_hours": "Hours of ranks (GPUs)",
    "cpu_hours": "Hours of CPUs",
    "wall_hours": "Hours on the clock, one job after the other",
    "bytes": "Disk",
    "cost": "Cost",
}


def plan_figure(table: pd.DataFrame) -> str:
    """Return an SVG element.

    Two bars for each stage and measure that was planned, what was planned above what was used;
    empty where none was.

    Bars of a measure are in proportion; measures are not.

    Args:
        table: the table `plan`.
    """
    known = table[table["planned"].notna() & table["used"].notna()]
    parts: list[str] = []
    y = 0
    for measure, title in TITLES.items():
        rows = known[known["measure"] == measure]
        most = rows[["planned", "used"]].to_numpy().max() if len(rows) else 0
        if not most:
            continue
        y += HEAD
        parts.append(f'<text x="0" y="{y - 10}" class="name">{title}</text>')
        for row in rows.itertuples():
            parts.append(f'<text x="0" y="{y + 17}">{escape(row.stage)}</text>')
            for offset, name, value in ((0, "planned", row.planned), (13, "used", row.used)):
                width = max(1.0, BAR * value / most)
                tip = f"<title>{escape(f'{row.stage}, {name}: {_text(measure, value)}')}</title>"
                parts.append(
                    f'<rect x="{LABEL}" y="{y + offset}" width="{width:.1f}" height="12" '
                    f'class="{name}">{tip}</rect>'
                )
                text = f"{_text(measure, value)} {name}"
                parts.append(
                    f'<text x="{LABEL + width + 8:.1f}" y="{y + offset + 10.5}" '
                    f'class="note">{escape(text)}</text>'
                )
            y += ROW
    if not parts:
        return ""
    title = "What was planned of each stage, and what it used"
    return (
        f'<svg class="diagram" viewBox="0 0 {WIDTH} {y}" role="img" '
        f'aria-label="{title}">{"".join(parts)}</svg>'
    )


def _text(measure: str, value: float) -> str:
    if measure == "bytes":
        return cells.memory(value / 1e6)
    return cells.number(value, 2) if measure == "cost" else cells.duration(value * 3600)
