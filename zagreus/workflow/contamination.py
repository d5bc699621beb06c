"""Contamination: which evaluation data is searched for in which training text."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from zagreus.posttraining.sets import names_of
from zagreus.workflow.adopted import Adopted
from zagreus.workflow.evaluation import Evaluation
from zagreus.workflow.interface import Config, Wildcards
from zagreus.workflow.models import Models
from zagreus.workflow.sources import Sources

# Tasks of a source that one job reads.
TASKS_PER_JOB = 16


@dataclass(frozen=True)
class Contamination:
    """The jobs of rules/contamination.smk."""

    config: Config
    """The checked configuration."""
    models: Models
    """Models and baselines."""
    sources: Sources
    """The section `sources`."""
    adopted: Adopted
    """The section `adopt`."""
    evaluation: Evaluation
    """Evaluation data, suites and prompts."""

    def learners(self, name: str) -> list[str]:
        """Return the models that see a source or a data set of conversations in training.

        A model that is made from such a model, or learns from it as its teacher, counts as well.
        """
        learners = [model for model in self.models.made if name in self._training_data(model)]
        for learner in learners:  # the list grows while it is read
            learners += [
                model
                for model in self.models.made
                if model not in learners and learner in self._origins[model]
            ]
        return learners

    @cached_property
    def _origins(self) -> dict[str, set[str | None]]:
        """By model: the model that it is initialised from, and the teachers of its stages."""
        origins = {}
        for model in self.models.made:
            stages = self.models.entry(model).get("posttrain", ())
            teachers = filter(None, map(self.models.teacher, stages))
            origins[model] = {self.models.parent(model), *(teacher for teacher, _ in teachers)}
        return origins

    def _training_data(self, model: str) -> set[str]:
        """Return the sources of a base model, or the conversations of a post-trained model."""
        entry = self.models.entry(model)
        if "pretrain" in entry:
            return set(entry["pretrain"]["mixture"])
        return {name for stage in entry["posttrain"] for name in names_of(stage)}

    def searched(self, name: str) -> dict[str, list[str]]:
        """Return, by language, the evaluation data to search for in a training text.

        Only data that a model trained on the text is scored on, in the language of the text.
        Conversations have many languages and little text: one job searches for `all`.
        """
        return self._searched[name]

    @cached_property
    def _searched(self) -> dict[str, dict[str, list[str]]]:
        names = [*self.config["chat"], *self.config["sources"]]
        return {name: self._search(name) for name in names}

    def _search(self, name: str) -> dict[str, list[str]]:
        scored = {
            data for model in self.learners(name) for data in self.evaluation.model_data(model)
        }
        source = self.config["sources"].get(name)
        searched: dict[str, list[str]] = {}
        for data, entry in self.config["evaluation_data"].items():
            if entry["kind"] == "needle":  # the answer is made up, and is in no text
                continue
            if data in scored and (
                source is None or source["language"] in ("code", *self._languages(data))
            ):
                searched.setdefault("all" if source is None else entry["language"], []).append(data)
        return searched

    def _languages(self, data: str) -> set[str]:
        """Return the languages of an evaluation data set and of the text that it is made from."""
        entry = self.evaluation.data(data)
        texts = [self.config["sources"][source] for source in entry.get("sources", ())]
        return {entry["language"], *(text["language"] for text in texts)}

    def texts(self, wildcards: Wildcards) -> list[str]:
        """Return the files of the text that a job reads."""
        return self._files(wildcards.text, "jsonl", "parquet")

    def manifests(self, wildcards: Wildcards) -> list[str]:
        """Return the manifests of the text that a job reads."""
        return self._files(wildcards.text, "json", "json")

    def _files(self, text: str, chat_suffix: str, source_suffix: str) -> list[str]:
        """Return the tasks of a source (`NAME/NUMBER`), or conversations (`chat/NAME`)."""
        folder, _, name = text.partition("/")
        if not name.isdigit():
            return [f"<results>/chat/{name}.{chat_suffix}"]
        first = int(name) * TASKS_PER_JOB
        last = min(first + TASKS_PER_JOB, self.sources.tasks(folder))
        return [
            self.sources.text(folder, f"{task:05d}", source_suffix) for task in range(first, last)
        ]

    def items(self, wildcards: Wildcards) -> list[str]:
        """Return the manifests of the evaluation data that a job searches for."""
        folder, _, name = wildcards.text.partition("/")
        searched = self.searched(folder if name.isdigit() else name)
        return [f"<results>/evaluation_data/{data}.json" for data in searched[wildcards.language]]

    def results(self) -> list[str]:
        """Return the manifests of all searches for n-grams."""
        return self._manifests("contamination", self._texts())

    def near_results(self) -> list[str]:
        """Return the manifests of all searches for near-duplicates."""
        near = self.config.get("contamination", {}).get("near_duplicates", {})
        return self._manifests("near_duplicates", near.get("texts", ()))

    def _manifests(self, folder: str, names: Iterable[str]) -> list[str]:
        """Return the manifests of the searches in some texts."""
        texts = self._texts()
        return [
            f"<results>/{folder}/{text}/{language}.json"
            for name in names
            for language in self.searched(name)
            for text in texts.get(name, ())
        ]

    def threshold(self, wildcards: Wildcards) -> float:
        """Return the share of a passage's n-grams that makes a near-duplicate."""
        return float(self.config["contamination"]["near_duplicates"]["threshold"])

    def _texts(self) -> dict[str, list[str]]:
        """Return the texts of a source or of conversations. Adopted shards have no text here."""
        texts = {dataset: [f"chat/{dataset}"] for dataset in self.config["chat"]}
        for source in self.sources.names:
            if not self.adopted.has_tokens(source):
                jobs = -(-self.sources.tasks(source) // TASKS_PER_JOB)
                texts[source] = [f"{source}/{job:05d}" for job in range(jobs)]
        return texts
