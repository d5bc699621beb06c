"""Artifacts made elsewhere, by the path that they take beneath the results folder."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from zagreus.workflow.arguments import dumps
from zagreus.workflow.interface import Config, Wildcards
from zagreus.workflow.models import Models
from zagreus.workflow.paths import Paths
from zagreus.workflow.recipes import recipe_fingerprint
from zagreus.workflow.sources import token_manifests


@dataclass(frozen=True)
class Adopted:
    """The section `adopt`: what rules/adopt.smk puts there instead of making it."""

    config: Config
    """The checked configuration."""
    paths: Paths
    """Folders of the run."""
    models: Models
    """Models and baselines."""

    def entries(self, stage: str) -> dict[str, Mapping[str, Any]]:
        """Return the entries of a stage (tokens, pretrain, models), by the rest of their key."""
        return {
            key.removeprefix(f"{stage}/"): entry
            for key, entry in self.config.get("adopt", {}).items()
            if key.startswith(f"{stage}/")
        }

    def has_tokens(self, source: str) -> bool:
        """Return whether the shards of a source are adopted."""
        return f"tokens/{source}" in self.config.get("adopt", {})

    def pattern(self, stage: str) -> str:
        """Return a pattern of exactly the keys of a stage; without any, one that never matches."""
        return "|".join(map(re.escape, self.entries(stage))) or "(?!)"

    def manifests(self) -> list[str]:
        """Return the manifests of everything that is adopted."""
        tokens = [
            manifest
            for source in self.entries("tokens")
            for manifest in token_manifests(self.config, source)
        ]
        return (
            tokens
            + [f"<results>/pretrain/{key}.json" for key in self.entries("pretrain")]
            + [f"<results>/models/{key}/manifest.json" for key in self.entries("models")]
        )

    def tokens_options(self, wildcards: Wildcards) -> str:
        """Return where shards are from and what they must be: options of adopt_tokens.py."""
        entry = self.entries("tokens")[wildcards.source]
        source = self.config["sources"][wildcards.source]
        options = ["--folder", entry["folder"], "--origin", entry["origin"]]
        options += ["--language", source["language"], "--tasks", str(source["tasks"])]
        return shlex.join(options + (["--end-token"] if self.config["shards"]["end_token"] else []))

    def checkpoint_options(self, wildcards: Wildcards) -> str:
        """Return where a checkpoint is from and what it stands for: options of
        adopt_checkpoint.py.
        """
        entry = self.entries("pretrain")[wildcards.place]
        model, step = wildcards.place.split("/")
        options = ["--folder", entry["folder"], "--origin", entry["origin"]]
        options += ["--model", model, "--step", step]
        pretrain = self.models.entry(model)["pretrain"]
        return shlex.join(
            options + (["--seed", str(pretrain["seed"])] if "seed" in pretrain else [])
        )

    def recipe(self, wildcards: Wildcards) -> str:
        """Return the recipe file of the model whose checkpoint is adopted."""
        return str(self._pretrain(wildcards)["recipe"])

    def recipe_fingerprint(self, wildcards: Wildcards) -> str:
        """Return what stands for the part of the recipe that decides the adopted weights."""
        _, step = wildcards.place.split("/")
        return recipe_fingerprint(self._pretrain(wildcards), int(step))

    def mixture(self, wildcards: Wildcards) -> str:
        """Return that model's mixture, as one argument of a shell line."""
        return dumps(self._pretrain(wildcards)["mixture"])

    def checkpoints(self, wildcards: Wildcards) -> str:
        """Return the folder of that model's checkpoints."""
        model, _ = wildcards.place.split("/")
        return self.paths.path(f"<results>/pretrain/{model}/checkpoints")

    def model_options(self, wildcards: Wildcards) -> str:
        """Return where a model is from and which model it stands for: options of adopt_model.py."""
        model, checkpoint = wildcards.place.split("/")
        options = ["--model", model, "--checkpoint", checkpoint]
        options += ["--title", self.models.title(model)]
        return f"--entry {dumps(self.entries('models')[wildcards.place])} {shlex.join(options)}"

    def _pretrain(self, wildcards: Wildcards) -> Mapping[str, Any]:
        model, _ = wildcards.place.split("/")
        pretrain: Mapping[str, Any] = self.models.entry(model)["pretrain"]
        return pretrain
