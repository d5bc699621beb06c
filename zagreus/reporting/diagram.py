"""What was made from what, as one picture: text sources, base models, post-trained models.

Its colours come from the page's style sheet.
"""

from __future__ import annotations

from html import escape

import pandas as pd

ROW, GAP = 30, 14
SOURCE_X, SOURCE_W = 0, 210
BASE_X, BASE_W = 430, 170
POST_X, POST_W = 740, 220
WIDTH = POST_X + POST_W


def family_diagram(models: pd.DataFrame, mixture: pd.DataFrame, tokens: pd.DataFrame) -> str:
    """Return an SVG element.

    An edge for each share of a mixture, as wide as its weight, and for each model made from
    another.

    Args:
        models, mixture, tokens: the tables of those names. Base models without a row in `mixture`
        have no edges.
    """
    totals = tokens.groupby("source", sort=False)["tokens"].sum()
    source_y, height = _source_rows(tokens)
    one_each = models.drop_duplicates("model")
    bases = one_each[one_each["kind"] == "base"]["model"].tolist()
    after = one_each[one_each["kind"] == "posttrained"]
    base_y = _spread(bases, height, 64)
    post_y = _spread(after["model"].tolist(), height, 64)
    height = max([height, *(y + 34 for y in base_y.values()), *(y + 34 for y in post_y.values())])

    parts = [
        f'<svg class="diagram" viewBox="0 0 {WIDTH} {height:g}" role="img" aria-label="Sources, '
        'base models, post-trained models">'
    ]
    series = {model: number % 8 + 1 for number, model in enumerate(dict.fromkeys(models["model"]))}
    for row in mixture.itertuples():
        if row.source in source_y and row.model in base_y:
            tip = f"{row.source}: {row.weight:.0%} of {row.model}"
            edge = _edge(SOURCE_X + SOURCE_W, source_y[row.source], BASE_X, base_y[row.model])
            parts.append(_path(edge, series[row.model], max(1.0, 22 * row.weight), tip))
    for row in after.itertuples():
        if row.parent in base_y:
            edge = _edge(BASE_X + BASE_W, base_y[row.parent], POST_X, post_y[row.model])
            parts.append(
                _path(edge, series[row.model], 5, f"{row.model} is made from {row.parent}")
            )
    for source, y in source_y.items():
        parts.append(_box(SOURCE_X, y, SOURCE_W, 24, source, _short(int(totals[source])), None))
    for model, y in base_y.items():
        trained = models.loc[models["model"] == model, "tokens"].max()
        note = f"{_short(int(trained))} tokens" if pd.notna(trained) else ""
        parts.append(_box(BASE_X, y, BASE_W, 50, model, note, series[model]))
    for model, y in post_y.items():
        stages = " → ".join(models.loc[models["model"] == model, "checkpoint"])
        parts.append(_box(POST_X, y, POST_W, 50, model, stages, series[model]))
    parts.append("</svg>")
    return "".join(parts)


def _source_rows(tokens: pd.DataFrame) -> tuple[dict[str, float], float]:
    """Return the middle of each source's row, languages set apart, and the height in all."""
    rows: dict[str, float] = {}
    y, before = ROW / 2, None
    for row in tokens.drop_duplicates("source").itertuples():
        if before is not None and row.language != before:
            y += GAP
        rows[row.source] = y
        y, before = y + ROW, row.language
    return rows, y - ROW / 2


def _spread(names: list[str], height: float, pitch: float) -> dict[str, float]:
    """Return the middle of each box, spread over the height, never nearer to one another than
    `pitch`.
    """
    if not names:
        return {}
    step = max(pitch, height / len(names))
    first = max(step / 2, (height - step * (len(names) - 1)) / 2)
    return {name: first + step * number for number, name in enumerate(names)}


def _edge(x0: float, y0: float, x1: float, y1: float) -> str:
    middle = (x0 + x1) / 2
    return f"M{x0:g},{y0:.1f} C{middle:g},{y0:.1f} {middle:g},{y1:.1f} {x1:g},{y1:.1f}"


def _path(edge: str, series: int, width: float, tip: str) -> str:
    return (
        f'<path d="{edge}" class="edge s{series}" '
        f'stroke-width="{width:.1f}"><title>{escape(tip)}</title></path>'
    )


def _box(
    x: float, y: float, width: float, height: float, name: str, note: str, series: int | None
) -> str:
    look = f' class="node s{series}"' if series else ' class="node"'
    box = (
        f'<rect x="{x + 0.5:g}" y="{y - height / 2:.1f}" width="{width - 1:g}" '
        f'height="{height:g}" rx="5"{look}/>'
    )
    if series:
        return (
            f'{box}<text x="{x + 14:g}" y="{y - 3:.1f}" class="name">{escape(name)}</text>'
            f'<text x="{x + 14:g}" y="{y + 14:.1f}" class="note">{escape(note)}</text>'
        )
    return (
        f'{box}<text x="{x + 10:g}" y="{y + 4.5:.1f}">{escape(name)}</text>'
        f'<text x="{x + width - 10:g}" y="{y + 4.5:.1f}" class="note" '
        f'text-anchor="end">{escape(note)}</text>'
    )


def _short(count: int) -> str:
    for size, unit in ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "k")):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return str(count)
