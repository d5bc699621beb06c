"""The ladder: small trainings that predict the held-out loss of a model."""

from __future__ import annotations

from dataclasses import dataclass

from zagreus.workflow.arguments import dumps
from zagreus.workflow.interface import Config, Wildcards
from zagreus.workflow.models import Models
from zagreus.workflow.paths import Paths
from zagreus.workflow.recipes import recipe_fingerprint


@dataclass(frozen=True)
class Ladder:
    """The section `ladder`, for rules/ladder.smk."""

    config: Config
    """The checked configuration."""
    paths: Paths
    """Folders of the run."""
    models: Models
    """Models and baselines, with the rungs."""

    def rungs(self, wildcards: Wildcards) -> list[str]:
        """Return the manifest of each rung's checkpoint.

        Raises:
            SystemExit: the configuration has no ladder. Snakemake puts lines of its own around any
                other error of an input function.
        """
        self._require()
        return [
            f"<results>/pretrain/{name}/{entry['checkpoints'][-1]}.json"
            for name, entry in self.models.rungs.items()
        ]

    def recipe(self, wildcards: Wildcards) -> str:
        """Return the recipe file of the model whose loss is predicted."""
        self._require()
        return str(self.models.entry(self.config["ladder"]["model"])["pretrain"]["recipe"])

    def target(self, wildcards: Wildcards) -> str:
        """Return that model as one argument of a shell line.

        `model`, `steps`, and the fingerprint of its recipe: another recipe is another prediction.
        """
        name = self.config["ladder"]["model"]
        pretrain = self.models.entry(name)["pretrain"]
        steps = pretrain["checkpoints"][-1]
        return dumps(
            {"model": name, "steps": steps, "fingerprint": recipe_fingerprint(pretrain, steps)}
        )

    def log_option(self, wildcards: Wildcards) -> str:
        """Return the training log of that model's last segment, as an option of ladder.py.

        The file is no input: the model need not be trained.
        """
        self._require()
        name = self.config["ladder"]["model"]
        last = self.models.last_checkpoint(name)
        return f"--log {self.paths.path(f'<results>/pretrain/{name}/{last}.jsonl')}"

    def _require(self) -> None:
        if "ladder" not in self.config:
            raise SystemExit("error: no section `ladder` in the configuration (docs/ladder.md)")
