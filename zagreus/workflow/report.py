"""The report: its evidence, and the arguments of scripts/tabulate.py."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from zagreus.workflow.arguments import dumps
from zagreus.workflow.contamination import Contamination
from zagreus.workflow.evaluation import Evaluation
from zagreus.workflow.exports import Exports
from zagreus.workflow.interface import Config
from zagreus.workflow.models import Models


@dataclass(frozen=True)
class Report:
    """The jobs of rules/report.smk."""

    config: Config
    """The checked configuration."""
    models: Models
    """Models and baselines."""
    evaluation: Evaluation
    """Evaluation data, suites and prompts."""
    exports: Exports
    """The section `exports`."""
    contamination: Contamination
    """The jobs that search benchmarks in the text."""

    def evidence(self) -> list[str]:
        """Return the manifests that lead back to everything else.

        Scores, samples, exports, every checkpoint, contamination, the fit of the ladder.
        """
        checkpoints = [
            manifest for model in self.models.all for manifest in self.models.manifests(model)
        ]
        return (
            self.evaluation.scores()
            + self.evaluation.samples()
            + self.exports.all()
            + checkpoints
            + self.contamination.results()
            + self.contamination.near_results()
            + self.ladder()[:1]
        )

    def ladder(self) -> list[str]:
        """Return the fit of the ladder and its figure; nothing without a section `ladder`."""
        return (
            ["<results>/ladder/manifest.json", "<results>/ladder/ladder.svg"]
            if ("ladder" in self.config)
            else []
        )

    def models_argument(self) -> str:
        """Return the models in order, in the form that scripts/tabulate.py documents."""
        return dumps([self._model(model) for model in self.models.all])

    def _model(self, model: str) -> dict[str, Any]:
        entry = self.models.entry(model)
        return {
            "name": model,
            "title": entry["title"],
            "kind": self.models.kind(model),
            "languages": entry["languages"],
            "parent": self.models.parent(model),
            "checkpoints": self.models.checkpoints(model),
            "mixture": entry["pretrain"]["mixture"] if "pretrain" in entry else {},
        }

    def tasks_argument(self) -> str:
        """Return the evaluation data set of each task as one argument of a shell line."""
        return dumps(self.evaluation.task_data())

    def published_tables(self) -> list[str]:
        """Return the table of each model that has published scores to compare with."""
        models = [*self.models.bases, *self.models.posttrained]
        return [f"<results>/tables/published_{model}.csv" for model in models]

    def plan_argument(self) -> str:
        """Return the plan, in the form that scripts/tabulate.py documents.

        Without the cluster, which changes no result.
        """
        plan = self.config.get("plan", {})
        pretrain = {name: self.models.entry(name)["pretrain"] for name in self.models.bases}
        sources = {
            name: {key: entry[key] for key in ("language", "tasks")}
            for name, entry in self.config["sources"].items()
        }
        planned_config = {
            "models": {name: {"pretrain": entry} for name, entry in pretrain.items()},
            "sources": sources,
            "tokenizer": self.config["tokenizer"],
            "plan": {key: plan[key] for key in ("peak_flops", "mfu", "prices") if key in plan},
        }
        models = {
            name: {"recipe": entry["recipe"], "steps": entry["checkpoints"][-1]}
            for name, entry in pretrain.items()
        }
        for name, entry in self.models.rungs.items():
            steps, rung = entry["checkpoints"][-1], entry["rung"]
            models[name] = {"recipe": entry["recipe"], "steps": steps, "rung": rung}
        if "ladder" in self.config:
            planned_config["ladder"] = self.config["ladder"]
        speeds = {key: plan[key] for key in ("peak_flops", "mfu") if key in plan}
        return dumps(speeds | {"models": models, "config": planned_config})
