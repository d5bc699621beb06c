"""How long the rest of a run takes: from reference times where the configuration has some, and from
how long its jobs took.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean

from .reference import Reference

ENOUGH = 3  # jobs that have to be done before anything is said


class Estimate:
    """Wall-clock seconds left, from the mean cost of each rule's finished jobs.

    While k jobs run, a second of the run is divided among them: a job's cost is what it adds to the
    length of the run. So the costs hold what ran in parallel, rule by rule: two downloads at a time
    cost half their seconds each, a training job that takes all cores costs all.
    """

    def __init__(self, counts: Mapping[str, int], reference: Reference | None = None) -> None:
        self.counts = dict(counts)
        self.reference = reference
        self.done: Counter[str] = Counter()
        self._names: dict[int, str] = {}  # job: its NAME, as the reference times have it
        self._done_names: dict[str, set[str]] = {}  # rule: the NAMEs of its finished jobs
        self._running: dict[
            int, tuple[str, float, float]
        ] = {}  # job: its rule, when it started, its cost so far
        self._costs: dict[str, list[float]] = {}
        self._earlier: dict[str, float | None] = {}  # rule: mean seconds in earlier runs
        self._benchmarks: Path | None = None
        self._clock = 0.0
        self._job_seconds = self._wall_seconds = 0.0

    def start(self, job: int, rule: str, now: float, benchmark: str | None = None) -> None:
        """A job starts at `now`, in seconds.

        `benchmark` is its file, FOLDER/RULE/NAME.tsv by this repository's convention.
        """
        self._share(now)
        self._names[job] = (benchmark or "").partition(f"/{rule}/")[2].removesuffix(".tsv")
        self._running[job] = (rule, now, 0.0)
        if benchmark and f"/{rule}/" in benchmark:
            self._benchmarks = Path(benchmark.split(f"/{rule}/")[0])
            # An earlier run's measurement is lost once the job has written its own.
            self._earlier.setdefault(rule, self._read(rule))

    def stop(self, job: int, now: float, success: bool = True) -> None:
        """A job ends at `now`."""
        self._share(now)
        rule, _, cost = self._running.pop(job)
        if success:
            self.done[rule] += 1
            self._costs.setdefault(rule, []).append(cost)
            self._done_names.setdefault(rule, set()).add(self._names.get(job, ""))
            if self.reference:
                self.reference.finished(rule, self._names.get(job, ""), cost)

    def left(self, now: float) -> tuple[float, int] | None:
        """Return the seconds left and how many of the jobs left are of rules never timed.

        None before a few jobs are done, unless there are reference times.
        """
        if self.done.total() < ENOUGH and not self.reference:
            return None
        self._share(now)
        every = fmean([cost for costs in self._costs.values() for cost in costs] or [0.0])
        parallel = self._job_seconds / self._wall_seconds if self._wall_seconds else 1.0
        seconds, untimed = 0.0, 0
        for rule, count in self.counts.items():
            remaining = count - self.done[rule]
            if remaining <= 0:
                continue
            costs = [cost for other, _, cost in self._running.values() if other == rule]
            if self.reference and rule in self.reference.rules:
                seconds += self._left_by_reference(rule)
                continue
            if rule in self._costs:
                mean = fmean(self._costs[rule])
            elif (earlier := self._seconds_of_earlier_runs(rule)) is not None:
                mean = earlier / parallel
            else:
                mean = max([every, *costs])
                untimed += remaining
            seconds += mean * remaining - sum(min(cost, mean) for cost in costs)
        return seconds, untimed

    def _left_by_reference(self, rule: str) -> float:
        assert self.reference is not None
        left = self.reference.left(rule, self.counts[rule], self._done_names.get(rule, set()))
        for job, (other, _, cost) in self._running.items():
            if other == rule:
                whole = self.reference.seconds(rule, self._names.get(job, ""))
                left -= min(cost, self.reference.factor(rule) * whole)
        return max(0.0, left)

    def _share(self, now: float) -> None:
        """Divide the seconds since the last event among the jobs that ran."""
        passed, self._clock = max(0.0, now - self._clock), now
        if self._running:
            self._wall_seconds += passed
            self._job_seconds += passed * len(self._running)
            share = passed / len(self._running)
            self._running = {
                job: (rule, started, cost + share)
                for job, (rule, started, cost) in self._running.items()
            }

    def _seconds_of_earlier_runs(self, rule: str) -> float | None:
        if rule not in self._earlier and self._benchmarks:
            self._earlier[rule] = self._read(rule)
        return self._earlier.get(rule)

    def _read(self, rule: str) -> float | None:
        """Return the mean of the column `s` of a rule's benchmark files, None without any."""
        assert self._benchmarks is not None
        seconds = []
        for path in (self._benchmarks / rule).rglob("*.tsv"):
            with path.open() as lines:
                seconds += [float(row["s"]) for row in csv.DictReader(lines, delimiter="\t")]
        return fmean(seconds) if seconds else None
