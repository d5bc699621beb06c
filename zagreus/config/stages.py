"""Post-training stages, checked on the host before any job: rows, batch and attention.

What a stage would say on its node, after all that it starts from was trained and the queue was
waited for, is said here. The standard library and yaml; nothing of Axolotl's.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from zagreus.errors import InputError
from zagreus.platform.builds import build_of
from zagreus.platform.wheels import read_lock
from zagreus.posttraining.attention import available
from zagreus.posttraining.distillation.recipe_file import load_distillation
from zagreus.posttraining.recipe_file import load_recipe, share_batch, validation_rows
from zagreus.posttraining.sets import names_of, set_problems

ROOT = Path(__file__).resolve().parents[2]


def stage_problems(config: Mapping[str, Any], results: Path) -> Iterator[str]:
    """Yield what keeps a stage of a configuration from running: its rows, processes and packages.

    Args:
        config: the whole configuration.
        results: the run's folder, for the data sets that are there already.

    Yields:
        one line for each problem, with its place in the configuration.
    """
    recipes: dict[tuple[str, bool], dict[str, Any]] = {}
    for where, stage in stages(config):
        file = stage["recipe"]
        key = file, stage["stage"] == "distill"  # the schema depends on the stage
        if not os.path.isfile(file) or not set(names_of(stage)) <= set(config["chat"]):
            continue  # said by check_config
        try:
            recipe = recipes.get(key) or _recipe_of(stage)
        except InputError as error:
            yield str(error)
            continue
        recipes[key] = recipe
        for check in (_check_rows, _check_batch, _check_attention):
            try:
                check(config, stage, recipe, results, where)
            except InputError as error:
                yield str(error)


def _recipe_of(stage: Mapping[str, Any]) -> dict[str, Any]:
    """Return the recipe of a stage, in the schema of the tool that runs it."""
    return (load_distillation if stage["stage"] == "distill" else load_recipe)(stage["recipe"])


def _check_rows(
    config: Mapping[str, Any],
    stage: Mapping[str, Any],
    recipe: Mapping[str, Any],
    results: Path,
    where: str,
) -> None:
    for problem in set_problems(stage, recipe):
        raise InputError(f"{where}.data: {stage['recipe']}: {problem}")
    if not isinstance(stage["data"], str):
        return  # filters and weights decide how many rows there are
    known = rows_of(config, stage["data"], results)
    if known is not None:
        validation_rows(
            recipe.get("val_set_size"), known, f"{where}: {stage['recipe']}: chat.{stage['data']}"
        )


def _check_batch(
    config: Mapping[str, Any],
    stage: Mapping[str, Any],
    recipe: Mapping[str, Any],
    results: Path,
    where: str,
) -> None:
    share_batch(
        recipe, stage.get("batch_ranks", 1), processes(config), f"{where}: {stage['recipe']}"
    )


def _check_attention(
    config: Mapping[str, Any],
    stage: Mapping[str, Any],
    recipe: Mapping[str, Any],
    results: Path,
    where: str,
) -> None:
    available(recipe, _locked(config["torch"]), f"{where}: {stage['recipe']}")


@cache
def _locked(torch: str) -> set[str]:
    """Return the packages of the image for post-training."""
    return {pin.name for pin in read_lock(ROOT / f"envs/posttrain.{build_of(torch).name}.lock")}


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
    if entry["kind"] == "local" and os.path.isfile(entry["path"]):
        with open(entry["path"], "rb") as lines:
            count = sum(1 for line in lines if line.strip())
        return min(count, limit or count)
    return None if limit is None else int(limit)
