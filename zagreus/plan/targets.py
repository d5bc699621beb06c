"""What each target of the workflow still costs, and each stage of the whole.

Parts of a plan, added up as the whole is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from zagreus.plan.estimate import Source, Training, fetch_jobs, job_plan
from zagreus.plan.totals import Totals, totals


class Targets:
    """The parts of a plan, from which a target's or a stage's are taken."""

    def __init__(
        self,
        config: Mapping[str, Any],
        sources: Sequence[Source],
        trainings: Sequence[Training],
        files: Mapping[str, Sequence[str]],
        benchmarks: Path,
    ) -> None:
        """Keep the parts.

        Args:
            config: the whole configuration.
            files: what rules without a formula make, in groups RULE/NAME.
            benchmarks: the run's folder of Snakemake's benchmark files.
        """
        self.config, self.sources, self.trainings, self.files, self.benchmarks = (
            config,
            sources,
            trainings,
            files,
            benchmarks,
        )

    def target(self, need: Mapping[str, Any]) -> Totals:
        """Return what a target alone would still cost: what two targets share stands in both.

        Args:
            need: `text` (tasks by source), `tokens` (sources), `train` (base models), `jobs`
                (groups of files).
        """
        sources, fetched = [], []
        for source in self.sources:
            tasks = need["text"].get(source.name, 0)
            if tasks:
                fetched.append(replace(source, tasks=max(tasks, source.fetched)))
            # A part of a source's tasks has that part of its text.
            part = replace(source, text_bytes=source.text_bytes * tasks / source.tasks)
            sources.append(part if source.name in need["tokens"] else only_text(part))
        trainings = [training for training in self.trainings if training.name in need["train"]]
        groups = {name: self.files[name] for name in need["jobs"]}
        models = {
            name: model
            for name, model in self.config["models"].items()
            if f"posttrain/{name}" in groups
        }
        jobs = [
            fetch_jobs(fetched, self.benchmarks),
            *job_plan(self.config, groups, self.benchmarks),
        ]
        return totals({**self.config, "models": models}, sources, trainings, jobs)

    def stages(self) -> dict[str, Totals]:
        """Return what each stage of the whole still costs, by rule."""
        by_stage = {
            "fetch": totals(
                self.config,
                [only_text(source) for source in self.sources],
                [],
                [fetch_jobs(self.sources, self.benchmarks)],
            ),
            "tokenize": totals(
                self.config,
                [
                    replace(source, text_bytes=0.0)
                    for source in self.sources
                    if source.needed_tokens
                ],
                [],
                [],
            ),
            "pretrain": totals(self.config, [], self.trainings, []),
        }
        for rule in dict.fromkeys(group.split("/")[0] for group in self.files):
            groups = {
                name: files for name, files in self.files.items() if name.split("/")[0] == rule
            }
            by_stage[rule] = totals(
                self.config, [], [], job_plan(self.config, groups, self.benchmarks)
            )
        return by_stage


def only_text(source: Source) -> Source:
    """Return a source of which no more is tokenized."""
    return replace(source, made=source.tasks, cpu_hours=0.0, missing=0.0, shard_bytes=0.0)
