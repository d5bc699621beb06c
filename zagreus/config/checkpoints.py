"""The checkpoints that a configuration names: of models, baselines and teachers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Config = Mapping[str, Any]


def checkpoints(entry: Mapping[str, Any]) -> list[str]:
    """Return the names of a model's checkpoints in order.

    Steps of a base model, stages of a post-trained model, `release` of a baseline.

    Args:
        entry: of the model or baseline in the configuration.
    """
    if "pretrain" in entry:
        return [str(step) for step in entry["pretrain"]["checkpoints"]]
    if "posttrain" in entry:
        return [str(stage["stage"]) for stage in entry["posttrain"]]
    return ["release"]


def last_checkpoints(config: Config) -> dict[str, str]:
    """Return the last checkpoint of every model and baseline."""
    entries = {**config["models"], **config["baselines"]}
    return {name: checkpoints(entry)[-1] for name, entry in entries.items()}


def checkpoint_of(config: Config, teacher: str | Mapping[str, Any]) -> tuple[str, str]:
    """Return model and checkpoint of a `teacher` in the configuration.

    Args:
        config: the configuration, which has the model.
        teacher: a model's name, which stands for its last checkpoint, or `{model, checkpoint}`.
    """
    if isinstance(teacher, str):
        return teacher, last_checkpoints(config)[teacher]
    return teacher["model"], str(teacher["checkpoint"])
