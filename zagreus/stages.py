"""Post-training stages, checked on the host before any job: rows, batch and attention.

What a stage would say on its node, after all that it starts from was trained and the queue was
waited for, is said here. The standard library and yaml; nothing of Axolotl's.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from zagreus.platform.wheels import read_lock
from zagreus.posttraining.attention import available
from zagreus.posttraining.data import check_validation_rows
from zagreus.posttraining.recipe_file import load_recipe, share_batch


def check_stages(config: Mapping[str, Any], results: Path) -> None:
    """Check every stage of a configuration against the rows, processes and packages it will have.

    Args:
        config: the whole configuration.
        results: the run's folder, for the data sets that are there already.

    Raises:
        InputError: the first stage that cannot run, with its place in the configuration.
    """
    packages: set[str] | None = None
    read: dict[str, dict[str, Any]] = {}
    for where, stage in stages(config):
        recipe = read.get(stage["recipe"]) or load_recipe(stage["recipe"])
        read[stage["recipe"]] = recipe
        known = rows_of(config, stage["data"], results)
        if known is not None:
            check_validation_rows(recipe, known, f"{where}: {stage['recipe']}", Path(f"chat.{stage['data']}"))
        share_batch(recipe, stage.get("batch_ranks", 1), processes(config), f"{where}: {stage['recipe']}")
        if packages is None:
            packages = {pin.name for pin in read_lock(Path(f"envs/posttrain.{config['torch']}.lock"))}
        available(recipe, packages, f"{where}: {stage['recipe']}")


def stages(config: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield (place in the configuration, entry) of every stage."""
    for name, model in config["models"].items():
        for index, stage in enumerate(model.get("posttrain", ())):
            yield f"models.{name}.posttrain.{index}", stage


def processes(config: Mapping[str, Any]) -> int:
    """Return how many processes post-training has: one without GPUs (rule posttrain)."""
    cluster = config["cluster"]
    ranks = 1 if config["torch"] == "cpu" else cluster["ranks_per_node"]
    return int(ranks * cluster.get("posttrain_nodes", 1))


def rows_of(config: Mapping[str, Any], name: str, results: Path) -> int | None:
    """Return the most rows that a chat data set can have for training; None where nobody knows yet.

    They are known once it was made, from a local file, and from a `limit`.
    """
    entry = config["chat"][name]
    try:
        manifest = json.loads((results / "chat" / f"{name}.json").read_text(encoding="utf-8"))
        if manifest["entry"] == entry:
            return int(manifest["rows"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # not made yet, or half: the rule makes it
    limit = entry.get("limit")
    if entry["kind"] == "local" and Path(entry["path"]).is_file():
        with open(entry["path"], "rb") as lines:
            count = sum(1 for line in lines if line.strip())
        return min(count, limit or count)
    return None if limit is None else int(limit)
