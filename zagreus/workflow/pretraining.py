"""Base models: mixture, segments of the training, conversion."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from zagreus.errors import InputError
from zagreus.plan.estimate import vocabulary
from zagreus.recipe.cost import conversion_megabytes
from zagreus.recipe.ladder import recipe_of
from zagreus.workflow.adopted import Adopted
from zagreus.workflow.arguments import dumps
from zagreus.workflow.interface import Config, Files, Input, Wildcards
from zagreus.workflow.models import Models
from zagreus.workflow.paths import Paths
from zagreus.workflow.recipes import recipe_fingerprint
from zagreus.workflow.sources import token_index

# Llama-3's vocabulary, for the memory of a conversion before the tokenizer is there.
VOCAB_SIZE = 128256


@dataclass(frozen=True)
class Pretraining:
    """The entries `pretrain` of the base models."""

    config: Config
    """The checked configuration."""
    paths: Paths
    """Folders of the run."""
    models: Models
    """Models and baselines."""
    adopted: Adopted
    """The section `adopt`."""

    def entry(self, wildcards: Wildcards) -> Mapping[str, Any]:
        """Return the entry `pretrain` of a job's model."""
        entry: Mapping[str, Any] = self.models.entry(wildcards.model)["pretrain"]
        return entry

    def recipe(self, wildcards: Wildcards) -> str:
        """Return the recipe file of a base model."""
        return str(self.entry(wildcards)["recipe"])

    def recipe_fingerprint(self, wildcards: Wildcards) -> str:
        """Return what stands for the part of the recipe that decides the weights at the step."""
        return recipe_fingerprint(self.entry(wildcards), int(wildcards.step))

    def seed_option(self, wildcards: Wildcards) -> str:
        """Return the seed where the configuration has one, as an option of the script.

        What makes the recipe a rung's follows, for a rung of the ladder.
        """
        entry = self.entry(wildcards)
        options = [f"--seed {entry['seed']}"] if "seed" in entry else []
        options += [f"--rung {dumps(entry['rung'])}"] if "rung" in entry else []
        return " ".join(options)

    def mixture(self, wildcards: Wildcards) -> dict[str, float]:
        """Return the weight of each source of the model."""
        return dict(self.entry(wildcards)["mixture"])

    def mixture_argument(self, wildcards: Wildcards) -> str:
        """Return the mixture as one argument of a shell line."""
        return dumps(self.mixture(wildcards))

    def tokens(self, wildcards: Wildcards) -> list[str]:
        """Return the manifest that stands for all token shards, of each source of the model."""
        return [token_index(source) for source in self.mixture(wildcards)]

    def sources(self, wildcards: Wildcards) -> list[str]:
        """Return the manifest of the first task of each source of the model."""
        return [f"<results>/sources/{source}/00000.json" for source in self.mixture(wildcards)]

    def heldout_text(self, wildcards: Wildcards) -> list[str]:
        """Return the held-out text of the same tasks."""
        return [
            f"<results>/sources/{source}/00000.heldout.parquet"
            for source in self.mixture(wildcards)
        ]

    def validation_sources(self, wildcards: Wildcards) -> list[str]:
        """Return the sources whose held-out loss is measured as the training runs.

        None where the recipe has no `val_check_interval`. Adopted tokens come without text.
        """
        if recipe_of(self.entry(wildcards)).tokens.val_check_interval <= 0:
            return []
        return [source for source in self.mixture(wildcards) if not self.adopted.has_tokens(source)]

    def heldout_tokens(self, wildcards: Wildcards) -> list[str]:
        """Return the held-out tokens of these sources.

        The manifest of a checkpoint does not name them: they do not change the weights.
        """
        return [
            f"<results>/tokens_heldout/{source}/00000.json"
            for source in self.validation_sources(wildcards)
        ]

    def heldout_option(self, wildcards: Wildcards) -> str:
        """Return the folders of the held-out tokens, as an option of the script."""
        folders = [
            self.paths.path(f"<results>/tokens_heldout/{source}")
            for source in self.validation_sources(wildcards)
        ]
        return f"--heldout {' '.join(folders)}" if folders else ""

    def previous(self, wildcards: Wildcards) -> Files:
        """Return the manifest of the checkpoint before this one; nothing for the first."""
        step = self.models.previous_checkpoint(wildcards.model, wildcards.step)
        return f"<results>/pretrain/{wildcards.model}/{step}.json" if step else []

    def previous_option(self, wildcards: Wildcards, input: Input) -> str:
        """Return the same manifest, as an option of the script."""
        return f"--previous {input.previous}" if input.previous else ""

    def init_from(self, wildcards: Wildcards) -> str | Mapping[str, Any] | None:
        """Return the entry `from` of the model, for the first segment of the training alone."""
        if self.models.previous_checkpoint(wildcards.model, wildcards.step):
            return None
        entry: str | Mapping[str, Any] | None = self.entry(wildcards).get("from")
        return entry

    def init_manifest(self, wildcards: Wildcards) -> Files:
        """Return the checkpoint that the training starts from, where a model here makes it."""
        parent = self.init_from(wildcards)
        if not isinstance(parent, str):
            return []
        return f"<results>/pretrain/{parent}/{self.models.last_checkpoint(parent)}.json"

    def init_option(self, wildcards: Wildcards, input: Input) -> str:
        """Return the checkpoint that the training starts from, as an option of the script."""
        init_from = self.init_from(wildcards)
        if init_from is None:
            return ""
        if isinstance(init_from, str):
            return f"--from {input.origin}"
        return f"--from {shlex.quote(init_from['folder'])}"

    def conversion_memory(self, wildcards: Wildcards, attempt: int) -> int:
        """Return the megabytes that a conversion needs.

        Llama-3's vocabulary size where that of the run is not known yet.
        """
        recipe = recipe_of(self.entry(wildcards))
        try:
            vocab_size = (
                vocabulary(self.config, self.paths.results)
                if recipe.model.model_config.vocab_size <= 0
                else recipe.model.padded_vocab_size
            )
        except InputError:
            vocab_size = VOCAB_SIZE
        return conversion_megabytes(recipe, vocab_size) * attempt

    def title(self, wildcards: Wildcards) -> str:
        """Return the title of the model for its card, as one argument of a shell line."""
        return shlex.quote(self.models.title(wildcards.model))
