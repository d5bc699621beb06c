"""What a configuration publishes: the repository and the revisions of each checkpoint.

Needs the standard library only; the rules and the program read it.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from zagreus.errors import InputError

Config = Mapping[str, Any]


@dataclass(frozen=True)
class Published:
    """A checkpoint, and the revision of a repository that it becomes."""

    model: str
    """Name of the model in the configuration."""
    checkpoint: str
    """Step of a base model, or stage of a post-trained one."""
    repository: str
    """Repository of the hub, `owner/name`."""
    revision: str
    """Branch: `main`, `step-N` or the stage."""


def published(config: Config) -> Iterator[Published]:
    """Yield the checkpoints that a configuration publishes.

    A base model's steps become branches `step-N`, a stage a branch of its name; the last checkpoint
    of a model is its repository's `main` too. `every: model` publishes the last ones alone.

    Raises:
        InputError: there is no section `publish`, or several models share one repository.
    """
    if "publish" not in config:
        raise InputError("no section `publish` in the configuration (docs/proof.md)")
    entry = config["publish"]
    models = entry.get("models", list(config["models"]))
    check_publication(config)
    for model in models:
        repository = entry["repo"].replace("{model}", model)
        names = checkpoints(config["models"][model])
        for checkpoint in names if entry["every"] == "checkpoint" else names[-1:]:
            if entry["every"] == "checkpoint":
                branch = f"step-{checkpoint}" if checkpoint.isdigit() else checkpoint
                yield Published(model, checkpoint, repository, branch)
            if checkpoint == names[-1]:
                yield Published(model, checkpoint, repository, "main")


def check_publication(config: Config) -> None:
    """Check the section `publish` of a configuration, where there is one.

    Raises:
        InputError: a model that is not defined, or several models in one repository: their
            revisions would have the same names.
    """
    entry = config.get("publish")
    if entry is None:
        return
    models = entry.get("models", list(config["models"]))
    for model in models:
        if model not in config["models"]:
            known = ", ".join(config["models"])
            raise InputError(f"publish.models: '{model}' is no model, expected one of {known}")
    if len(models) > 1 and "{model}" not in entry["repo"]:
        raise InputError(
            f"publish.repo: '{entry['repo']}' for {len(models)} models, expected a name with "
            "{model} in it, or one model under publish.models"
        )


def checkpoints(model: Mapping[str, Any]) -> list[str]:
    """Return the checkpoints of a model of the configuration, in order."""
    if "pretrain" in model:
        return [str(step) for step in model["pretrain"]["checkpoints"]]
    return [stage["stage"] for stage in model["posttrain"]]


def receipts(config: Config, results: str) -> list[str]:
    """Return the files that say that each checkpoint is published."""
    names = {(target.model, target.checkpoint) for target in published(config)}
    return [f"{results}/published/{model}/{checkpoint}.json" for model, checkpoint in sorted(names)]


def arguments(config: Config, model: str, checkpoint: str) -> str:
    """Return the repository and the revisions of a checkpoint, for a shell line.

    Raises:
        InputError: the configuration does not publish the checkpoint.
    """
    matches = [
        target
        for target in published(config)
        if target.model == model and target.checkpoint == checkpoint
    ]
    if not matches:
        raise InputError(f"{model} {checkpoint}: not published by the configuration")
    revisions = " ".join(f"--revision {shlex.quote(target.revision)}" for target in matches)
    public = " --public" if config["publish"].get("public", False) else ""
    return f"{shlex.quote(matches[0].repository)} {revisions}{public}"
