"""The plan of a run: the files of each group of jobs, the needs of each target, the limits."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zagreus.atomic import atomic_file
from zagreus.errors import InputError
from zagreus.plan.estimate import fetch_jobs, job_plan, source_plan, training_plan
from zagreus.plan.totals import totals
from zagreus.posttraining.sets import names_of
from zagreus.workflow.adopted import Adopted
from zagreus.workflow.contamination import Contamination
from zagreus.workflow.evaluation import Evaluation
from zagreus.workflow.interface import Config, Wildcards
from zagreus.workflow.models import Models
from zagreus.workflow.paths import Paths

REQUEST = Path(".snakemake/plan.json")
Need = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """The questions of `bin/zagreus plan` (scripts/plan.py)."""

    config: Config
    """The checked configuration."""
    paths: Paths
    """Folders of the run."""
    models: Models
    """Models and baselines."""
    adopted: Adopted
    """The section `adopt`."""
    evaluation: Evaluation
    """Evaluation data, suites and prompts."""
    contamination: Contamination
    """The jobs that search benchmarks in the text."""

    def files(self) -> dict[str, list[str]]:
        """Return the files of the rules that no formula covers, in groups RULE/NAME.

        The last checkpoint of a base model is a group of its own: what follows from the model asks
        for that checkpoint alone.
        """
        groups = {f"fetch_chat/{name}": [f"<results>/chat/{name}.json"] for name in self._chat()}
        for name in self.evaluation.used_data():
            groups[f"fetch_evaluation/{name}"] = [f"<results>/evaluation_data/{name}.json"]
        for name in self.models.all:
            groups |= self._model_files(name)
            groups[f"evaluate/{name}"] = self.evaluation.scores(name)
            groups[f"sample/{name}"] = self.evaluation.samples(name)
        groups["contamination/all"] = self.contamination.results()
        if near := self.contamination.near_results():
            groups["near_duplicates/all"] = near
        return {name: [self.paths.path(file) for file in files] for name, files in groups.items()}

    def _model_files(self, name: str) -> dict[str, list[str]]:
        manifests = self.models.manifests(name)
        kind = self.models.kind(name)
        if kind == "base":
            return {f"convert/{name}": manifests[:-1], f"convert/{name}/last": manifests[-1:]}
        rule = "posttrain" if kind == "posttrained" else "fetch_model"
        return {f"{rule}/{name}": manifests}

    def need(
        self,
        names: Iterable[str] = (),
        jobs: Iterable[str] = (),
        tokens: Iterable[str] = (),
        data: Sequence[str] = (),
        last: bool = False,
    ) -> Need:
        """Return what makes models, groups of jobs, tokens of sources and evaluation data.

        Args:
            names: models.
            jobs: groups of `files`.
            tokens: sources whose tokens are made.
            data: evaluation data sets.
            last: whether the last checkpoint alone of the base models is converted.

        Returns:
            `text` (tasks by source), `tokens` (sources), `train` (base models), `jobs` (groups).
        """
        train, models_tokens, models_jobs = self._model_need(names, last)
        chats = [chat for name in data for chat in self.evaluation.data(name).get("chat", ())]
        all_tokens = [*tokens, *models_tokens]
        all_jobs = [
            *jobs,
            *models_jobs,
            *(f"fetch_evaluation/{name}" for name in data),
            *(f"fetch_chat/{chat}" for chat in chats),
        ]
        return {
            "text": self._text_need(all_tokens, data),
            "tokens": sorted(set(all_tokens)),
            "train": sorted(set(train)),
            "jobs": sorted(set(all_jobs)),
        }

    def _model_need(
        self, names: Iterable[str], last: bool
    ) -> tuple[list[str], list[str], list[str]]:
        """Return base models, sources and groups of jobs that make models and their parents."""
        train: list[str] = []
        tokens: list[str] = []
        jobs: list[str] = []
        # Which checkpoints of a base model are converted: all, the last, or none.
        waiting = [(name, "last" if last else "all") for name in names]
        for name, converted in waiting:  # parents are added while the list is read
            parent, entry = self.models.parent(name), self.models.entry(name)
            if "pretrain" in entry:
                train.append(name)
                tokens += entry["pretrain"]["mixture"]
                converted = "none" if name in self.models.rungs else converted
                jobs += [f"convert/{name}"] if converted == "all" else []
                jobs += [f"convert/{name}/last"] if converted != "none" else []
            else:
                jobs.append(f"posttrain/{name}")
                jobs += [
                    f"fetch_chat/{name}" for stage in entry["posttrain"] for name in names_of(stage)
                ]
                teachers = filter(None, map(self.models.teacher, entry["posttrain"]))
                for teacher, _ in teachers:
                    if self.models.kind(teacher) == "baseline":
                        jobs.append(f"fetch_model/{teacher}")
                    else:
                        waiting.append((teacher, "all"))
            if parent:
                waiting.append((parent, "none" if "pretrain" in entry else "last"))
        return train, tokens, jobs

    def _text_need(self, tokens: Iterable[str], data: Iterable[str]) -> dict[str, int]:
        """Return how many tasks of each source are read as text."""
        text: dict[str, int] = {}
        for source in [*tokens, *self.config["tokenizer"].get("sources", ())]:
            # The model cards read the text of the first task of adopted tokens.
            text[source] = 1 if self.adopted.has_tokens(source) else self._tasks(source)
        for name in data:
            for source in self.evaluation.data(name).get("sources", ()):
                text[source] = max(text.get(source, 0), self.evaluation.source_tasks(name, source))
        return text

    def targets(self) -> dict[str, Need]:
        """Return what each target asks for, alone; `ladder` where the configuration has one."""
        models, data = self.models.made, self.evaluation.used_data()
        rungs = list(self.models.rungs)
        sources = list(self.config["sources"])
        chats = [f"fetch_chat/{name}" for name in self._chat()]
        baselines = [f"fetch_model/{name}" for name in self.models.baselines]
        scores = [*(f"evaluate/{name}" for name in self.models.all), *baselines]
        samples = [f"sample/{name}" for name in self.models.all]
        near = ["near_duplicates/all"] if self.contamination.near_results() else []
        report = [*scores, *samples, "contamination/all", *near]
        needs = {
            name: self.need(
                [name],
                [f"evaluate/{name}", f"sample/{name}"],
                data=sorted(self.evaluation.model_data(name)),
            )
            for name in models
        }
        needs["tokens"] = self.need(tokens=sources)
        needs["bases"] = self.need(self.models.bases, last=True)
        needs["evals"] = self.need(models, scores, data=data)
        needs["stage"] = self.need(jobs=[*chats, *baselines], data=data)
        needs["stage"]["text"] = {source: self._tasks(source) for source in sources}
        needs["report"] = self.need([*models, *rungs], report, data=data)
        needs["all"] = self.need([*models, *rungs], [*report, *chats], data=data)
        if rungs:
            needs["ladder"] = self.need(rungs)
        return needs

    def request(self, wildcards: Wildcards) -> str:
        """Write the request of scripts/plan.py to a file, and return the file.

        Snakemake calls this for the job alone, not whenever it reads the workflow.
        """
        request = {"config": self.config, "files": self.files(), "targets": self.targets()}
        with atomic_file(REQUEST) as partial:
            partial.write_text(json.dumps(request, ensure_ascii=False), encoding="utf-8")
        return str(REQUEST)

    def check_limits(self) -> None:
        """Check a run against the limits of the section `plan`, whatever the target.

        Raises:
            InputError: the configuration still needs more than its limits.
        """
        if self.config.get("over_budget") or not any(
            key.startswith("max_") for key in self.config.get("plan", {})
        ):
            return
        results, benchmarks = self.paths.results, self.paths.benchmarks
        sources = source_plan(self.config, results)
        jobs = [
            fetch_jobs(sources, benchmarks),
            *job_plan(self.config, self.files(), benchmarks),
        ]
        trainings = training_plan(self.config, results)
        exceeded = totals(self.config, sources, trainings, jobs).exceeded(self.config)
        if exceeded:
            raise InputError(f"{exceeded}; with --config over_budget=True it starts all the same")

    def _chat(self) -> list[str]:
        return list(self.config["chat"])

    def _tasks(self, source: str) -> int:
        return int(self.config["sources"][source]["tasks"])
