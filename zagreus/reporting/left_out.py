"""Rows that the run left out, by reason: text, chat, post-training rows, evaluation items."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from zagreus.reporting.lineage import Lineage, Node

COLUMNS = ["kind", "name", "reason", "left_out", "rows", "share"]
ORDER = ("text", "cleaned text", "chat", "post-training", "evaluation")


def left_out_table(lineage: Lineage) -> pd.DataFrame:
    """Return one row per data set and reason for which rows were left out.

    `left_out` are the rows of that reason, `rows` all rows that were read (missing where their
    number is not known), `share` the one by the other. The tasks of a source are added up.
    """
    counts: Counter[tuple[str, str, str]] = Counter()
    rows: Counter[tuple[str, str]] = Counter()
    for node in lineage.nodes.values():
        for kind, name, read, reasons in _counted(node):
            rows[kind, name] += read
            for reason, count in reasons.items():
                counts[kind, name, reason] += count
    table = [
        {
            "kind": kind,
            "name": name,
            "reason": reason,
            "left_out": count,
            "rows": rows[kind, name] or None,
            "share": round(count / rows[kind, name], 6) if rows[kind, name] else None,
        }
        for (kind, name, reason), count in counts.items()
        if count
    ]
    table.sort(key=lambda row: (ORDER.index(row["kind"]), row["name"], row["reason"]))
    frame = pd.DataFrame(table, columns=COLUMNS)
    return frame.astype({"left_out": "Int64", "rows": "Int64"})


def _counted(node: Node) -> Iterator[tuple[str, str, int, Mapping[str, int]]]:
    """Yield kind, name, rows read and rows left out by reason, for what a manifest counts."""
    manifest: dict[str, Any] = node.manifest
    if node.kind == "source":
        name = node.name.partition("/")[0]
        if reasons := manifest.get("dropped"):
            kept = manifest["documents"] + manifest.get("heldout_documents", 0)
            yield "text", name, kept + sum(reasons.values()), reasons
        if reasons := manifest.get("removed"):
            yield "cleaned text", name, manifest["documents"] + sum(reasons.values()), reasons
    elif node.kind == "chat":
        repeated = {"repeated": manifest.get("rows_repeated", 0)}
        reasons = {**manifest.get("rows_lost", {}), **repeated}
        yield "chat", node.name, manifest.get("rows_read", 0), reasons
    elif node.kind == "model" and "rows_lost" in manifest:
        name = f"{manifest['model']}/{manifest['checkpoint']}"
        yield "post-training", name, manifest.get("rows_given", 0), manifest["rows_lost"]
    elif node.kind == "evaluation_data":
        for split, reasons in manifest.get("rows_lost", {}).items():
            yield "evaluation", node.name, 0, {f"{split}: {why}": n for why, n in reasons.items()}
        yield "evaluation", node.name, 0, manifest.get("rows_left_out", {})
