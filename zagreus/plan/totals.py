"""The whole of a plan.

What all that is missing takes together, for people, and against the limits of the config.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zagreus.plan.estimate import Jobs, Source, Training


@dataclass
class Totals:
    """The whole of what is missing: of a run, a target or a stage.

    The jobs around pre-training are tokenization (its longest task, or all of it on the CPUs of
    the configured nodes), a conversion, the stages of post-training and a suite.
    """

    jobs: int
    """Missing jobs."""
    made_tokens: float
    """Tokens to tokenize."""
    tokens: int
    """Tokens to train on."""
    flops: float
    """Floating-point operations of pre-training."""
    training_hours: float | None
    """Rank hours of pre-training; None where a speed is not known."""
    job_hours: float
    """Rank hours of other jobs that hold ranks, as far as timed."""
    cpu_hours: float
    """Core hours of tokenization and of timed jobs without ranks."""
    longest: float | None
    """Wall hours of pre-training with every base model on ranks of its own."""
    row: float | None
    """Wall hours of pre-training with one model after the other."""
    around: float
    """Wall hours of the jobs before and after pre-training that cannot overlap."""
    text_bytes: float
    """Bytes of text."""
    shard_bytes: float
    """Bytes of shards."""
    checkpoint_bytes: int
    """Bytes of the kept checkpoints."""
    rolling_bytes: int
    """Bytes of the saves that exist only during training."""
    untimed: list[str]
    """Rules whose jobs were never timed."""

    @property
    def rank_hours(self) -> float | None:
        """Hours of all jobs that hold ranks."""
        return None if self.training_hours is None else self.training_hours + self.job_hours

    @property
    def disk_bytes(self) -> float:
        """Bytes of text, shards and checkpoints at the end; images come on top."""
        return self.text_bytes + self.shard_bytes + self.checkpoint_bytes

    @property
    def peak_bytes(self) -> float:
        """Bytes at the most, when all models train at once."""
        return self.disk_bytes + self.rolling_bytes

    def cost(self, prices: Mapping[str, Any]) -> float | None:
        """Return what the hours cost, at prices of a rank's and of a CPU's hour."""
        return (
            None
            if self.rank_hours is None
            else self.rank_hours * prices["rank_hour"] + self.cpu_hours * prices["cpu_hour"]
        )

    def lines(self, config: Mapping[str, Any]) -> list[str]:
        """Return the figures for people, one a line."""
        prices = config.get("plan", {}).get("prices")
        unknown = "not known: give plan.peak_flops and plan.mfu, or train a step"
        lines = [f"tokens to train on: {self.tokens:,} ({self.flops:.3g} FLOPs)"]
        lines.append(
            "rank-hours of pre-training: "
            f"{unknown if self.training_hours is None else f'{self.training_hours:,.1f}'}"
        )
        if self.job_hours:
            lines.append(
                f"rank-hours of conversion, post-training and scoring: {self.job_hours:,.1f}"
            )
        lines.append(f"CPU-hours: {self.cpu_hours:,.2f}")
        if self.longest is not None and self.row is not None:
            lines.append(
                f"wall time of pre-training: {self.longest:,.1f} hours with all models at once, "
                f"{self.row:,.1f} one after the other"
            )
            lines.append(
                f"wall time of the longest path: {self.longest + self.around:,.1f} hours, "
                f"{self.row + self.around:,.1f} with one model at a time"
            )
        lines.append(
            f"disk at the end: at least {self.disk_bytes / 1e9:,.1f} GB "
            f"({self.text_bytes / 1e9:,.1f} of text, {self.shard_bytes / 1e9:,.1f} of "
            f"shards, {self.checkpoint_bytes / 1e9:,.1f} of checkpoints); at the most "
            f"{self.peak_bytes / 1e9:,.1f} GB, with rolling saves"
        )
        cost = self.cost(prices) if prices else None
        if prices and cost is not None:
            lines.append(
                f"cost: {cost:,.0f} {prices['currency']} ({prices['rank_hour']} a rank-hour, "
                f"{prices['cpu_hour']} a CPU-hour)"
            )
        if self.untimed:
            lines.append(
                f"not in these figures, as no such job was timed yet: {', '.join(self.untimed)}"
            )
        return lines

    def exceeded(self, config: Mapping[str, Any]) -> str | None:
        """Return the first figure that passes its limit in the config (`plan.max_...`), as a line.

        None where all keep to them.
        """
        plan = config.get("plan", {})
        figures = {
            "max_rank_hours": self.rank_hours,
            "max_cost": self.cost(plan["prices"]) if "prices" in plan else None,
            "max_disk_tb": self.peak_bytes / 1e12,
        }
        for limit, needed in figures.items():
            if limit in plan and needed is not None and needed > plan[limit]:
                return (
                    f"plan.{limit}: the run needs {needed:,.1f}, the configuration allows "
                    f"{plan[limit]:,.1f}"
                )
        return None


def totals(
    config: Mapping[str, Any],
    sources: Sequence[Source],
    trainings: Sequence[Training],
    jobs: Sequence[Jobs],
) -> Totals:
    """Return the whole of a plan.

    Of the config's models the post-trained ones are counted that have jobs here.
    """
    cluster = config["cluster"]
    ranks = cluster["nodes"] * cluster["ranks_per_node"]
    cpus = cluster["nodes"] * cluster.get("cpus_per_node", cluster["ranks_per_node"])
    own = {training.name: training.rank_hours for training in trainings}
    origin = {training.name: training.origin for training in trainings}
    known = all(value is not None for value in own.values())

    def chain(name: str | None) -> float:
        return 0.0 if name not in own else (own[name] or 0.0) + chain(origin[name])

    whole = sum(value or 0.0 for value in own.values())
    per_job = {job.rule: job.hours_per_job for job in jobs if job.missing}
    stages = max(
        (len(model["posttrain"]) for model in config["models"].values() if "posttrain" in model),
        default=0,
    )
    after = (
        per_job.get("convert", 0.0)
        + stages * per_job.get("posttrain", 0.0)
        + per_job.get("evaluate", 0.0)
    )
    tokenization = sum(source.cpu_hours for source in sources)
    before = max([tokenization / cpus, *(source.task_hours for source in sources)])
    tasks = sum(source.tasks - source.made for source in sources)
    return Totals(
        jobs=tasks
        + sum(training.segments for training in trainings)
        + sum(job.missing for job in jobs),
        made_tokens=sum(source.missing for source in sources),
        tokens=sum(training.tokens for training in trainings),
        flops=sum(training.flops for training in trainings),
        training_hours=whole if known else None,
        job_hours=sum(job.ranks * (job.hours or 0.0) for job in jobs),
        cpu_hours=tokenization + sum(job.hours or 0.0 for job in jobs if not job.ranks),
        longest=max(map(chain, own), default=0.0) / ranks if known else None,
        row=whole / ranks if known else None,
        around=before + after,
        text_bytes=sum(source.text_bytes for source in sources),
        shard_bytes=sum(source.shard_bytes for source in sources),
        checkpoint_bytes=sum(training.disk_bytes for training in trainings),
        rolling_bytes=sum(training.rolling_bytes for training in trainings),
        untimed=list(dict.fromkeys(job.rule for job in jobs if job.missing and job.hours is None)),
    )
