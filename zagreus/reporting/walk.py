"""The walk from a model back to the bytes it rests on, as rows for the page."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zagreus.reporting.lineage import Lineage, Node

# Of a source cut into many tasks, this many shards are listed and the rest are counted.
LISTED = 4

# From the finished model back, and what is done at each station.
ORDER = [
    "scores",
    "model",
    "checkpoint",
    "chat",
    "token_index",
    "tokens",
    "tokenizer",
    "duplicates",
    "source",
    "evaluation_data",
]


@dataclass
class Step:
    """One artifact of the walk.

    Its manifest's hash, the files it consists of, the plain files (here, or where it was fetched)
    it was made from.
    """

    kind: str
    name: str
    sha256: str
    outputs: list[tuple[str, str]]
    files: list[tuple[str, str]]


@dataclass
class Walk:
    """A model with everything behind it.

    `left_out` counts the shards of many that are not listed.
    """

    model: str
    checkpoint: str
    anchor: str
    steps: list[Step] = field(default_factory=list)
    left_out: int = 0


def walk_back(lineage: Lineage, node: Node) -> Walk:
    """Return the artifacts behind a model, nearest first, by kind."""
    walk = Walk(
        node.manifest["model"],
        str(node.manifest["checkpoint"]),
        anchor(node.manifest["model"], node.manifest["checkpoint"]),
    )
    listed: dict[tuple[str, str], int] = {}
    ancestors = list(lineage.ancestors(node.path))
    ancestors.sort(
        key=lambda ancestor: ORDER.index(ancestor.kind) if ancestor.kind in ORDER else len(ORDER)
    )
    for ancestor in ancestors:
        if ancestor.kind in ("tokens", "source"):
            group = (ancestor.kind, ancestor.name.partition("/")[0])
            listed[group] = listed.get(group, 0) + 1
            if listed[group] > LISTED:
                walk.left_out += 1
                continue
        walk.steps.append(
            Step(
                ancestor.kind,
                ancestor.name,
                ancestor.sha256,
                _files(ancestor.manifest["outputs"]),
                _files(ancestor.files or ancestor.manifest.get("origin", [])),
            )
        )
    return walk


def anchor(model: str, checkpoint: str | int) -> str:
    """Return the id under which the page has the walk of a checkpoint."""
    return f"walk-{model}-{checkpoint}".replace(".", "-")


def _files(items: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(Path(item["path"]).name, item["sha256"]) for item in items]
