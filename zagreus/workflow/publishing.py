"""Checkpoints on a model hub (`publish`), and scalars in trackers (`track`)."""

from __future__ import annotations

from dataclasses import dataclass

from zagreus.config import publication
from zagreus.errors import InputError
from zagreus.workflow.interface import Config, Wildcards
from zagreus.workflow.models import Models
from zagreus.workflow.paths import Paths


@dataclass(frozen=True)
class Publishing:
    """The jobs of rules/publish.smk and rules/track.smk."""

    config: Config
    """The checked configuration."""
    paths: Paths
    """Folders of the run."""
    models: Models
    """Models and baselines."""

    def receipts(self, wildcards: Wildcards) -> list[str]:
        """Return what says that each checkpoint is published.

        Raises:
            SystemExit: the configuration publishes nothing. Snakemake puts lines of its own around
                any other error of an input function.
        """
        try:
            return publication.receipts(self.config, self.paths.path("<results>"))
        except InputError as error:
            raise SystemExit(f"error: {error}") from None

    def target(self, wildcards: Wildcards) -> str:
        """Return the repository and the revisions of a checkpoint, as options of publish.py.

        Raises:
            InputError: the configuration does not publish the checkpoint.
        """
        return publication.arguments(self.config, wildcards.model, wildcards.checkpoint)

    def finished_model(self, wildcards: Wildcards) -> str:
        """Return the manifest of the finished model whose training a tracker shows."""
        return self.models.manifest(wildcards.model, self.models.last_checkpoint(wildcards.model))

    def tracked(self) -> list[str]:
        """Return what says that each tracker has each model."""
        return [
            f"<results>/tracking/{tracker}/{model}.done"
            for tracker in self.config.get("track", [])
            for model in self.models.made
        ]
