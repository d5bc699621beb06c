"""Resources of jobs: memory, run time, GPUs and nodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from zagreus.cluster.runtime import job_minutes, segment_minutes, stage_minutes, step_seconds
from zagreus.platform.builds import on_gpus
from zagreus.workflow.interface import Config, Resource, Wildcards
from zagreus.workflow.models import Models
from zagreus.workflow.paths import Paths

# A day: the longest run time of a job in minutes, where the configuration has none.
MAX_MINUTES = 1440
# Memory of a training without a cluster, in megabytes.
TRAINING_MB = 3000


def growing(megabytes: int) -> Resource:
    """Return memory that grows with each attempt."""

    def memory(wildcards: Wildcards, attempt: int) -> int:
        return megabytes * attempt

    return memory


@dataclass(frozen=True)
class Cluster:
    """The section `cluster`. Circumstances: a change makes nothing again."""

    config: Config
    """The checked configuration."""
    paths: Paths
    """Folders of the run."""
    models: Models
    """Models and baselines."""
    _step_seconds: dict[str, float | None] = field(default_factory=dict, repr=False)
    """Seconds of a step by model: every segment asks for them."""
    _job_minutes: dict[str, int | None] = field(default_factory=dict, repr=False)
    """Minutes of a job by rule: thousands of jobs ask for them."""

    @cached_property
    def entry(self) -> Mapping[str, Any]:
        """The section."""
        entry: Mapping[str, Any] = self.config["cluster"]
        return entry

    @property
    def max_minutes(self) -> int:
        """The longest run time that a job may ask for, in minutes."""
        return int(self.entry.get("max_minutes", MAX_MINUTES))

    @property
    def nodes(self) -> int:
        """Nodes of a pre-training job."""
        return int(self.entry["nodes"])

    @property
    def nproc_per_node(self) -> int:
        """Processes of a training on a node."""
        return int(self.entry["ranks_per_node"])

    @property
    def cpus_per_node(self) -> int:
        """CPUs of a training on a node."""
        return int(self.entry.get("cpus_per_node", self.nproc_per_node))

    @property
    def posttrain_nodes(self) -> int:
        """Nodes of a post-training job."""
        return int(self.entry.get("posttrain_nodes", 1))

    @property
    def posttrain_nproc_per_node(self) -> int:
        """Processes of post-training on a node.

        One without a GPU: several would need more than two cores.
        """
        return 1 if self.config["torch"] == "cpu" else self.nproc_per_node

    @property
    def posttrain_cpus_per_node(self) -> int:
        """CPUs of post-training on a node."""
        return 1 if self.config["torch"] == "cpu" else self.cpus_per_node

    def gpus(self, count: int) -> str:
        """Return GPUs of a node as Slurm's --gres takes them; nothing where torch runs on CPUs."""
        if self.config["torch"] == "cpu":
            return ""
        return ":".join(["gpu", *([self.entry["gpu"]] if "gpu" in self.entry else []), str(count)])

    def gpu_slots(self, count: int) -> int:
        """Return the GPUs of a job, which `share_gpus` limits to those of this machine."""
        return count if on_gpus(self.config["torch"]) else 0

    def longer(self, minutes: int, rule: str | None = None) -> Resource:
        """Return a run time that doubles with each attempt, up to the longest.

        Where jobs of the rule were timed in this run, the first attempt asks for their longest
        time, with head-room.
        """

        def runtime(wildcards: Wildcards, attempt: int) -> int:
            timed = self._timed(rule) if rule else None
            if timed and attempt == 1:
                return min(timed, self.max_minutes)
            doubled = minutes << (attempt - 1)
            return min(max(doubled, timed or 0), self.max_minutes)

        return runtime

    def _timed(self, rule: str) -> int | None:
        """Return the minutes of a job by the timed jobs of its rule; None without any."""
        if rule not in self._job_minutes:
            self._job_minutes[rule] = job_minutes(self.paths.benchmarks, rule)
        return self._job_minutes[rule]

    def training_memory(self, wildcards: Wildcards, attempt: int) -> int:
        """Return the memory of a node in megabytes: all of it, or little on one machine."""
        return int(self.entry.get("memory_mb_per_node", TRAINING_MB * attempt))

    def training_minutes(self, wildcards: Wildcards, attempt: int) -> int:
        """Return the minutes of a segment by the plan, with head-room.

        The longest run time where the plan knows no speed: a segment goes on in another job.
        """
        previous = self.models.previous_checkpoint(wildcards.model, wildcards.step)
        steps = int(wildcards.step) - int(previous or 0)
        seconds = self._seconds(wildcards.model)
        if seconds is None:
            return self.max_minutes
        return min(segment_minutes(seconds, steps) * attempt, self.max_minutes)

    def _seconds(self, model: str) -> float | None:
        if model not in self._step_seconds:
            self._step_seconds[model] = step_seconds(self.config, self.paths.results, model)
        return self._step_seconds[model]

    def posttraining_minutes(self, wildcards: Wildcards, attempt: int) -> int:
        """Return the minutes of a stage, by the timed stages with the same recipe."""
        minutes = stage_minutes(
            self.config,
            self.paths.results,
            self.paths.benchmarks,
            wildcards.model,
            wildcards.stage,
        )
        return self.max_minutes if minutes is None else min(minutes * attempt, self.max_minutes)
