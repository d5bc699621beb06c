"""config.yaml evaluates every number that was published, config/nesso2.yaml those of Nesso2.

The same model at the same step on the same task.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from zagreus.config.long_form import read_config
from zagreus.workflow.workflow import Workflow

ROOT = Path(__file__).parents[3]
CONFIGS: dict[str, dict[str, Any]] = {
    name: read_config(ROOT / name) for name in ("config.yaml", "config/nesso2.yaml")
}
READERS = {
    name: Workflow.read(config | {"software": "venv"}, []) for name, config in CONFIGS.items()
}
KEYS = ("rank", "model", "checkpoint", "step")


def rows(file: str) -> list[dict[str, str]]:
    with open(ROOT / "reference" / file, newline="") as opened:
        return list(csv.DictReader(opened))


def taken(config: str, model: str) -> set[str]:
    """The tasks that a model takes."""
    return {
        task["name"]
        for suite in CONFIGS[config]["evaluations"]
        for task in READERS[config].evaluation.tasks(model, suite)
    }


@pytest.mark.parametrize("file", sorted({row["file"] for row in rows("tables.csv")}))
def test_every_published_score_is_made(file: str) -> None:
    names = {row["published"]: row["task"] for row in rows("tasks.csv")}
    models = {row["published"]: (row["model"], row["checkpoint"]) for row in rows("models.csv")}
    of_table = next(row["model"] for row in rows("tables.csv") if row["file"] == file)
    scores, config = 0, "config/nesso2.yaml" if file.startswith("nesso2/") else "config.yaml"
    for row in rows(file):
        model, step = (of_table, row["step"]) if "step" in row else models[row["model"]]
        if step.isdigit():
            assert int(step) in CONFIGS[config]["models"][model]["pretrain"]["checkpoints"], (
                f"{file}: {model} at step {step}"
            )
        for column, value in row.items():
            if value and column not in KEYS and not column.startswith("mean"):
                task = names.get(column) or column.partition(":")[0]
                assert task in taken(config, model), f"{file}: {model} on {task}"
                scores += 1
    assert scores
