"""Exports of models to other formats: which there are, and the arguments of their scripts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from zagreus.export.plan import exported, heldout_sets, last_checkpoints
from zagreus.workflow.arguments import dumps
from zagreus.workflow.interface import Config, Wildcards
from zagreus.workflow.paths import Paths


@dataclass(frozen=True)
class Exports:
    """The section `exports`, for rules/export.smk."""

    config: Config
    """The checked configuration."""
    paths: Paths
    """Folders of the run."""

    @property
    def threads(self) -> int:
        """The threads that speeds are measured with, besides one."""
        section: dict[str, Any] = self.config.get("exports", {})
        return int(section.get("threads", 1))

    def all(self) -> list[str]:
        """Return the manifests of all exports."""
        listed = exported(self.config, last_checkpoints(self.config))
        return [
            f"<results>/exports/{model}/{checkpoint}/{form}/manifest.json"
            for model, checkpoint, form in listed
        ]

    def texts(self, wildcards: Wildcards) -> list[str]:
        """Return the held-out text of each of a model's languages."""
        sets = heldout_sets(self.config, wildcards.model)
        return [f"<results>/evaluation_data/{name}.json" for name in sets.values()]

    def texts_argument(self, wildcards: Wildcards) -> str:
        """Return the same by language, as one argument of a shell line."""
        sets = heldout_sets(self.config, wildcards.model)
        return dumps(
            {
                language: self.paths.path(f"<results>/evaluation_data/{name}.json")
                for language, name in sets.items()
            }
        )

    def limits_argument(self, wildcards: Wildcards) -> str:
        """Return the limits of a format, as one argument of a shell line."""
        limits: dict[str, Any] = self.config["exports"].get("limits", {})
        return dumps(limits.get(wildcards.format, {}))
