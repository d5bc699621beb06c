"""config.yaml evaluates every number that was published.

The same model at the same step on the same task.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
CONFIG: dict[str, Any] = yaml.safe_load((ROOT / "config.yaml").read_text())
KEYS = ("rank", "model", "checkpoint", "step")


def rows(file: str) -> list[dict[str, str]]:
    with open(ROOT / "reference" / file, newline="") as opened:
        return list(csv.DictReader(opened))


def taken(model: str) -> set[str]:
    """The tasks that a model takes, as rules/common_evaluate.smk has it."""
    entry = (CONFIG["models"] | CONFIG["baselines"])[model]
    kind = "base" if "pretrain" in entry else "posttrained" if "posttrain" in entry else "baseline"
    chats = kind == "posttrained" or (kind == "baseline" and entry.get("chat", True))
    found = set()
    for suite in CONFIG["evaluations"].values():
        if kind in suite["for"] and (kind != "baseline" or chats or "base" in suite["for"]):
            languages = {
                task["name"]: CONFIG["evaluation_data"][task["data"]]["language"]
                for task in suite["tasks"]
            }
            found |= {
                name for name, language in languages.items() if language in entry["languages"]
            }
    return found


@pytest.mark.parametrize("file", sorted({row["file"] for row in rows("tables.csv")}))
def test_every_published_score_is_made(file: str) -> None:
    names = {row["published"]: row["task"] for row in rows("tasks.csv")}
    models = {row["published"]: (row["model"], row["checkpoint"]) for row in rows("models.csv")}
    of_table = next(row["model"] for row in rows("tables.csv") if row["file"] == file)
    scores = 0
    for row in rows(file):
        model, step = (of_table, row["step"]) if "step" in row else models[row["model"]]
        if step:
            assert int(step) in CONFIG["models"][model]["pretrain"]["checkpoints"], (
                f"{file}: {model} at step {step}"
            )
        for column, value in row.items():
            if value and column not in KEYS and not column.startswith("mean"):
                task = names.get(column) or column.partition(":")[0]
                assert task in taken(model), f"{file}: {model} on {task}"
                scores += 1
    assert scores
