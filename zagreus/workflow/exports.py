"""Exports of models to other formats: which there are, and the arguments of their scripts."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Any

from zagreus.config.checkpoints import last_checkpoints
from zagreus.export.plan import exported, heldout_sets
from zagreus.workflow.arguments import dumps
from zagreus.workflow.evaluation import Evaluation
from zagreus.workflow.interface import Config, Wildcards
from zagreus.workflow.paths import Paths


@dataclass(frozen=True)
class Exports:
    """The section `exports`, for rules/export.smk."""

    config: Config
    """The checked configuration."""
    paths: Paths
    """Folders of the run."""
    evaluation: Evaluation
    """The evaluation data, for the requests that exports answer."""

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

    def requests(self, model: str) -> list[str]:
        """Return the data sets of tool calls that a model is scored on; none where the
        configuration has no `requests`.
        """
        if "requests" not in self.config.get("exports", {}):
            return []
        return sorted(
            name
            for name in self.evaluation.model_data(model)
            if self.evaluation.data(name)["kind"] == "instructions"
            and self.evaluation.data(name)["form"] == "tools"
        )

    def texts(self, wildcards: Wildcards) -> list[str]:
        """Return the held-out text of each of a model's languages, and its requests."""
        sets = [*heldout_sets(self.config, wildcards.model).values()]
        return [
            f"<results>/evaluation_data/{name}.json"
            for name in [*sets, *self.requests(wildcards.model)]
        ]

    def texts_argument(self, wildcards: Wildcards) -> str:
        """Return the held-out text by language, as one argument of a shell line.

        Where there are requests, the options for them follow.
        """
        sets = heldout_sets(self.config, wildcards.model)
        argument = dumps({language: self._data(name) for language, name in sets.items()})
        requests = self.requests(wildcards.model)
        if requests:
            limit = self.config["exports"]["requests"]
            files = " ".join(shlex.quote(self._data(name)) for name in requests)
            argument += f" --requests {files} --request-limit {limit}"
        return argument

    def _data(self, name: str) -> str:
        return self.paths.path(f"<results>/evaluation_data/{name}.json")

    def limits_argument(self, wildcards: Wildcards) -> str:
        """Return the limits of a format, as one argument of a shell line."""
        limits: dict[str, Any] = self.config["exports"].get("limits", {})
        return dumps(limits.get(wildcards.format, {}))
