"""Models of the configuration: kinds, checkpoints, parents, manifests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from zagreus.config.checkpoints import checkpoint_of, checkpoints
from zagreus.recipe.ladder import rung_entries
from zagreus.workflow.interface import Config


@dataclass(frozen=True)
class Models:
    """The models that are made, and the baselines."""

    config: Config
    """The checked configuration."""

    @property
    def made(self) -> list[str]:
        """Names of the models that the workflow makes."""
        return list(self.config["models"])

    @property
    def bases(self) -> list[str]:
        """Names of the base models."""
        return [name for name, model in self.config["models"].items() if "pretrain" in model]

    @property
    def posttrained(self) -> list[str]:
        """Names of the post-trained models."""
        return [name for name, model in self.config["models"].items() if "posttrain" in model]

    @property
    def baselines(self) -> list[str]:
        """Names of the models made elsewhere."""
        return list(self.config["baselines"])

    @property
    def all(self) -> list[str]:
        """Names of all models: those that are made, then the baselines."""
        return [*self.made, *self.baselines]

    @cached_property
    def rungs(self) -> dict[str, dict[str, Any]]:
        """The entry `pretrain` of each rung of the ladder, by name. No other list has rungs."""
        return rung_entries(self.config)

    def entry(self, model: str) -> Mapping[str, Any]:
        """Return the entry of a model or baseline; of a rung, its `pretrain` alone."""
        if model in self.rungs:
            return {"pretrain": self.rungs[model]}
        section = "baselines" if model in self.config["baselines"] else "models"
        entry: Mapping[str, Any] = self.config[section][model]
        return entry

    def kind(self, model: str) -> str:
        """Return `base`, `posttrained` or `baseline`."""
        entry = self.entry(model)
        if "pretrain" in entry:
            return "base"
        return "posttrained" if "posttrain" in entry else "baseline"

    def chats(self, model: str) -> bool:
        """Return whether the model answers through a chat template."""
        kind = self.kind(model)
        return kind == "posttrained" or (
            kind == "baseline" and bool(self.entry(model).get("chat", True))
        )

    def title(self, model: str) -> str:
        """Return the title of a model in cards and in the report."""
        return str(self.entry(model)["title"])

    def languages(self, model: str) -> list[str]:
        """Return the languages that a model is evaluated on: ISO 639-3."""
        return list(self.entry(model)["languages"])

    def checkpoints(self, model: str) -> list[str]:
        """Return the names of a model's checkpoints in order.

        Steps of a base model, stages of a post-trained model, `release` of a baseline.
        """
        return checkpoints(self.entry(model))

    def last_checkpoint(self, model: str) -> str:
        """Return the checkpoint that is the finished model."""
        return self.checkpoints(model)[-1]

    def previous_checkpoint(self, model: str, checkpoint: str) -> str | None:
        """Return the checkpoint before this checkpoint; None before the first."""
        names = self.checkpoints(model)
        index = names.index(checkpoint)
        return names[index - 1] if index else None

    def parent(self, model: str) -> str | None:
        """Return the model of this configuration that a model is initialised from, else None."""
        entry = self.entry(model)
        init_from = entry.get("from") or entry.get("pretrain", {}).get("from")
        return init_from if isinstance(init_from, str) else None

    def teacher(self, stage: Mapping[str, Any]) -> tuple[str, str] | None:
        """Return model and checkpoint of the teacher of a post-training stage; None without one."""
        return checkpoint_of(self.config, stage["teacher"]) if "teacher" in stage else None

    def manifest(self, model: str, checkpoint: str) -> str:
        """Return the manifest of a checkpoint in Hugging Face format."""
        return f"<results>/models/{model}/{checkpoint}/manifest.json"

    def manifests(self, model: str) -> list[str]:
        """Return the manifests of all checkpoints of a model."""
        return [self.manifest(model, checkpoint) for checkpoint in self.checkpoints(model)]

    def finished_bases(self) -> list[str]:
        """Return the manifest of the last checkpoint of each base model."""
        return [self.manifest(model, self.last_checkpoint(model)) for model in self.bases]

    def releases(self) -> list[str]:
        """Return the manifests of the baselines."""
        return [self.manifest(model, "release") for model in self.baselines]
