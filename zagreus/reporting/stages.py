"""The run's graph of artifacts, drawn by rule.

How many each rule made, and from which rules' artifacts.
"""

from __future__ import annotations

from collections import Counter
from html import escape

from zagreus.reporting.jobs import ORDER, rule_of
from zagreus.reporting.lineage import Lineage

WIDE, HIGH, ACROSS, DOWN = 132, 44, 176, 62


def stage_diagram(lineage: Lineage) -> str:
    """Return an SVG element.

    A box for each rule that made artifacts, a line from each rule whose artifacts it took, left to
    right.
    """
    rules = {path: rule for path in lineage.nodes if (rule := rule_of(lineage, path)) is not None}
    made = Counter(rules.values())
    edges: Counter[tuple[str, str]] = Counter()
    for path, rule in rules.items():
        for parent in lineage.nodes[path].parents:
            if parent in rules and rules[parent] != rule:
                edges[rules[parent], rule] += 1
    # What is not among them (adopted artifacts) comes last.
    ordered = sorted(
        made, key=lambda rule: (ORDER.index(rule) if rule in ORDER else len(ORDER), rule)
    )
    column = _columns(ordered, edges)
    positions: dict[str, tuple[int, int]] = {}
    for rule in ordered:
        row = sum(column[other] == column[rule] for other in positions)
        positions[rule] = (column[rule] * ACROSS, row * DOWN)
    width = max(x for x, _ in positions.values()) + WIDE
    height = max(y for _, y in positions.values()) + HIGH
    title = "Rules, the number of artifacts of each, and what they were made from"
    parts = [
        f'<svg class="diagram" viewBox="-1 -1 {width + 2} {height + 2}" role="img" '
        f'aria-label="{title}">'
    ]
    for (before, after), count in edges.items():
        (x0, y0), (x1, y1) = positions[before], positions[after]
        begin, end, middle = (x0 + WIDE, y0 + HIGH / 2), (x1, y1 + HIGH / 2), (x0 + WIDE + x1) / 2
        curve = (
            f"M{begin[0]},{begin[1]:g} C{middle:g},{begin[1]:g} {middle:g},{end[1]:g} "
            f"{end[0]},{end[1]:g}"
        )
        parts.append(
            f'<path d="{curve}" class="edge s8" '
            f'stroke-width="1.6"><title>{escape(f"{before} to {after}: {count}")}</title></path>'
        )
    for rule, (x, y) in positions.items():
        parts.append(f'<rect x="{x}" y="{y}" width="{WIDE}" height="{HIGH}" rx="5" class="node"/>')
        parts.append(f'<text x="{x + 10}" y="{y + 19}">{escape(rule)}</text>')
        parts.append(f'<text x="{x + 10}" y="{y + 35}" class="note">{made[rule]}</text>')
    return "".join([*parts, "</svg>"])


def _columns(rules: list[str], edges: Counter[tuple[str, str]]) -> dict[str, int]:
    """Return each rule's column: one beyond the last of those it takes from.

    Rules that take from one another (none does) stay bounded.
    """
    column = dict.fromkeys(rules, 0)
    for _ in rules:
        for before, after in edges:
            column[after] = min(len(rules), max(column[after], column[before] + 1))
    return column
