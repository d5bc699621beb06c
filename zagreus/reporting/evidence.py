"""What the page knows of every score and artifact, so that a click on a cell walks from it to the
bytes at the beginning.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

from zagreus.reporting.jobs import rule_of
from zagreus.reporting.lineage import Lineage, Node

# Of a source cut into many tasks this many shards are on the page; the others are counted, and are
# all in the RO-Crate.
SHARDS = 4
SHARDED = ("tokens", "source", "contamination", "near_duplicates")
# What stands beside a score.
BESIDE = [
    *(
        "value",
        "stderr",
        "n",
        "set_aside",
        "num_fewshot",
        "chance",
        "majority_baseline",
        "unparsed",
    ),
    *("label_shares", "task_version", "task_hash", "data_sha256"),
]
# What of a manifest of scores holds for all of its scores.
FACTS = [
    "weights_sha256",
    "dtype",
    "scorer",
    "chat_template_sha256",
    "batch_size",
    "max_length",
    "software",
]


class Evidence:
    """The artifacts and scores of a run, numbered.

    `artifact` gives the number of a manifest by its path (None where it is left out), `score` that
    of a score by (model, checkpoint, task, metric). `rules` are those that made one of the
    artifacts.
    """

    def __init__(self, lineage: Lineage):
        self.artifact: dict[str, int] = {}
        self.score: dict[tuple[str, str, str, str], int] = {}
        self._artifacts: list[dict[str, Any]] = []
        self._scores: list[dict[str, Any]] = []
        shards: Counter[tuple[str, str]] = Counter()
        self._left_out: Counter[str] = Counter()
        for path, node in lineage.nodes.items():
            if node.kind in SHARDED:
                # SOURCE/TASK, and SOURCE/TASK/LANGUAGE of contamination.
                group = (node.kind, re.sub(r"/\d+", "", node.name))
                shards[group] += 1
                if shards[group] > SHARDS:
                    self._left_out[str(rule_of(lineage, path))] += 1
                    continue
            self.artifact[path] = len(self._artifacts)
            self._artifacts.append(self._describe(lineage, node))
        self.rules = {artifact["rule"] for artifact in self._artifacts}
        for node in lineage.of_kind("scores"):
            facts = {key: node.manifest[key] for key in FACTS if node.manifest.get(key) is not None}
            seconds = node.run.get("seconds_per_task", {})
            for score in node.manifest["scores"]:
                key = (
                    node.manifest["model"],
                    str(node.manifest["checkpoint"]),
                    score["task"],
                    score["metric"],
                )
                self.score[key] = len(self._scores)
                beside = {name: score[name] for name in BESIDE if score.get(name) not in (None, {})}
                if score["task"] in seconds:
                    facts = {**facts, "seconds": seconds[score["task"]]}
                of = {"model": key[0], "checkpoint": key[1], "task": key[2], "metric": key[3]}
                self._scores.append(
                    {**of, "beside": beside | facts, "artifact": self.artifact[node.path]}
                )

    def _describe(self, lineage: Lineage, node: Node) -> dict[str, Any]:
        known = [self.artifact[parent] for parent in node.parents if parent in self.artifact]
        return {
            "kind": node.kind,
            "name": node.name,
            "rule": rule_of(lineage, node.path),
            "manifest": node.sha256,
            "files": _files(node.manifest["outputs"]),
            "from": _files(node.files or node.manifest.get("origin", [])),
            "parents": known,
            "more": len(node.parents) - len(known),
            "software": node.manifest.get("software"),
            "seconds": node.run.get("seconds"),
        }

    def json(self) -> str:
        """Return all of it as JSON that may stand within a script element."""
        known = {"artifacts": self._artifacts, "scores": self._scores, "leftOut": self._left_out}
        text = json.dumps(known, ensure_ascii=False, separators=(",", ":"))
        return text.replace("<", "\\u003c")


def _files(items: list[dict[str, Any]]) -> list[tuple[str, int, str]]:
    return [(Path(item["path"]).name, item["bytes"], item["sha256"]) for item in items]
