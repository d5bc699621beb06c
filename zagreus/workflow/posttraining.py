"""Conversations, and the stages of post-training."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from zagreus.posttraining.sets import names_of
from zagreus.posttraining.templates import template_of
from zagreus.workflow.arguments import dumps
from zagreus.workflow.interface import Config, Files, Input, Wildcards
from zagreus.workflow.models import Models
from zagreus.workflow.packages import Packages
from zagreus.workflow.paths import Paths


@dataclass(frozen=True)
class Posttraining:
    """The section `chat`, and the entries `posttrain` of the models."""

    config: Config
    """The checked configuration."""
    paths: Paths
    """Folders of the run."""
    models: Models
    """Models and baselines."""
    packages: Packages
    """The lock table of packages."""

    def chat_wheel(self, wildcards: Wildcards) -> Files:
        """Return the wheel that conversations of kind package are read from."""
        entry = self._chat(wildcards)
        return self.packages.wheel(entry["package"]) if entry["kind"] == "package" else []

    def chat_file(self, wildcards: Wildcards) -> Files:
        """Return the file of conversations of kind local."""
        entry = self._chat(wildcards)
        return str(entry["path"]) if entry["kind"] == "local" else []

    def chat_entry(self, wildcards: Wildcards) -> str:
        """Return the entry of the conversations as one argument of a shell line."""
        return dumps(self._chat(wildcards))

    def chat_options(self, wildcards: Wildcards, input: Input) -> str:
        """Return the file that the job reads, as an option of scripts/fetch_chat.py."""
        return f"--wheel {input.wheel}" if input.wheel else ""

    def chat_manifests(self) -> list[str]:
        """Return the manifests of all conversations."""
        return [f"<results>/chat/{dataset}.json" for dataset in self.config["chat"]]

    def stage(self, wildcards: Wildcards) -> Mapping[str, Any]:
        """Return the entry of a stage."""
        entry: Mapping[str, Any] = next(
            stage
            for stage in self.models.entry(wildcards.model)["posttrain"]
            if stage["stage"] == wildcards.stage
        )
        return entry

    def base(self, wildcards: Wildcards) -> str:
        """Return the manifest of the model that a stage starts from.

        The stage before it, or the last checkpoint of the model's `from`.
        """
        previous = self.models.previous_checkpoint(wildcards.model, wildcards.stage)
        if previous:
            return self.models.manifest(wildcards.model, previous)
        parent = str(self.models.entry(wildcards.model)["from"])
        return self.models.manifest(parent, self.models.last_checkpoint(parent))

    def recipe(self, wildcards: Wildcards) -> str:
        """Return the recipe file of a stage."""
        return str(self.stage(wildcards)["recipe"])

    def data(self, wildcards: Wildcards) -> list[str]:
        """Return the manifests of the conversations of a stage."""
        return [f"<results>/chat/{name}.json" for name in names_of(self.stage(wildcards))]

    def rows(self, wildcards: Wildcards) -> list[str]:
        """Return the conversations of a stage."""
        return [f"<results>/chat/{name}.jsonl" for name in names_of(self.stage(wildcards))]

    def template(self, wildcards: Wildcards) -> Files:
        """Return the file of a stage's chat template, where the stage names one."""
        template = template_of(self.stage(wildcards))
        return str(template.file) if template else []

    def teacher(self, wildcards: Wildcards) -> Files:
        """Return the manifest of a distillation's teacher, where the stage is one."""
        teacher = self.models.teacher(self.stage(wildcards))
        return self.models.manifest(*teacher) if teacher else []

    def heldout(self, wildcards: Wildcards) -> Files:
        """Return the held-out conversations that a distillation is measured on."""
        stage = self.stage(wildcards)
        if not self.models.teacher(stage):
            return []
        return [f"<results>/chat/{name}.heldout.jsonl" for name in names_of(stage)]

    def title(self, wildcards: Wildcards) -> str:
        """Return the title of the model for its card, as one argument of a shell line."""
        return shlex.quote(self.models.title(wildcards.model))

    def languages(self, wildcards: Wildcards) -> list[str]:
        """Return the languages of the model."""
        return self.models.languages(wildcards.model)

    def work(self, wildcards: Wildcards) -> str:
        """Return the folder of a stage's working files."""
        return self.paths.path(f"<results>/posttrain/{wildcards.model}/{wildcards.stage}")

    def batch_ranks(self, wildcards: Wildcards, input: Input) -> int | str:
        """Return the world size that the recipe's accumulation is meant for, then options.

        The options are those of a stage with several data sets, a template or a teacher. They share
        a param with the world size: a further param would make every trained stage again.
        """
        entry = self.stage(wildcards)
        world_size, options = int(entry.get("batch_ranks", 1)), ""
        if not isinstance(entry["data"], str):
            options += f" --mix {dumps(entry['data'])}"
        template = template_of(entry)
        if template:
            markers = " ".join(map(shlex.quote, (template.stop, *template.markers)))
            options += f" --template {shlex.quote(str(template.file))} --turn-tokens {markers}"
        if input.teacher:
            options += f" --teacher {input.teacher}"
        if entry.get("teacher_correct"):
            options += " --teacher-correct"
        return f"{world_size}{options}" if options else world_size

    def _chat(self, wildcards: Wildcards) -> Mapping[str, Any]:
        entry: Mapping[str, Any] = self.config["chat"][wildcards.dataset]
        return entry
