"""How long a configuration's jobs take on the machine that the times were taken on, and how much
slower this machine is.

`times/NAME.csv` has the times of `config/NAME.yaml`: `rule,job,seconds`. `job` is the name of the
job's benchmark file (`ita/240`). `seconds` is what the job adds to a run on
two idle cores.
The rows of the rule `speed` have the times of the two measurements below on that machine.
`python -P tests/benchmarks/reference_times.py` writes such a table from a finished run.
"""

from __future__ import annotations

import csv
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

TIMES = Path(__file__).with_name("times")
# Rules whose time is mostly arithmetic on matrices; that of the others is mostly Python.
MATRICES = ("pretrain", "posttrain", "evaluate", "sample", "convert")
# Reference seconds of finished jobs that count as much as the measurement at the start: jobs of any
# kind tell how busy the machine is, and those of a rule's own kind tell more.
TRUST, TRUST_IN_KIND = 5.0, 20.0


class Reference:
    """Reference seconds of each job, and this machine's slowness by kind of work."""

    def __init__(self, seconds: Mapping[tuple[str, str], float], slowness: Mapping[str, float]):
        self.rules: dict[str, dict[str, float]] = {}
        for (rule, job), value in seconds.items():
            self.rules.setdefault(rule, {})[job] = value
        self.slowness = dict(slowness)
        # By kind: reference seconds of finished jobs, and what they took here.
        self._expected = dict.fromkeys(slowness, 0.0)
        self._taken = dict.fromkeys(slowness, 0.0)

    def finished(self, rule: str, job: str, cost: float) -> None:
        """Learn from a finished job how slow this machine is."""
        if rule in self.rules:
            self._expected[kind_of(rule)] += self.seconds(rule, job)
            self._taken[kind_of(rule)] += cost

    def seconds(self, rule: str, job: str) -> float:
        """Return a job's reference seconds; the mean of its rule's for a job that has none."""
        jobs = self.rules[rule]
        return jobs.get(job, sum(jobs.values()) / len(jobs))

    def factor(self, rule: str) -> float:
        """Return by how much a rule's jobs take longer here than their reference seconds."""
        kind = kind_of(rule)
        taken = sum(self._taken[name] / value for name, value in self.slowness.items())
        drift = (TRUST + taken) / (TRUST + sum(self._expected.values()))
        before = self.slowness[kind] * drift * TRUST_IN_KIND
        return (before + self._taken[kind]) / (TRUST_IN_KIND + self._expected[kind])

    def left(self, rule: str, count: int, done: set[str]) -> float:
        """Return the seconds that the jobs of a rule that are not done will take here.

        Args:
            rule: one with reference seconds.
            count: how many of its jobs the run has.
            done: the jobs that are done.
        """
        jobs = self.rules[rule]
        if count == len(jobs) and done <= set(jobs):
            seconds = sum(value for job, value in jobs.items() if job not in done)
        else:
            seconds = (count - len(done)) * sum(jobs.values()) / len(jobs)
        return self.factor(rule) * seconds


def kind_of(rule: str) -> str:
    """Return `matrices` or `python`: what a rule's jobs mostly do."""
    return "matrices" if rule in MATRICES else "python"


def read_reference(arguments: Sequence[str]) -> Reference | None:
    """Return the reference of the configuration that a command line names, None without one.

    This machine is measured for half a second.
    """
    path = TIMES / f"{configuration(arguments)}.csv"
    if not path.is_file():
        return None
    with path.open(encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    seconds = {(row["rule"], row["job"]): float(row["seconds"]) for row in rows}
    speeds = {kind: seconds.pop(("speed", kind)) for kind in MEASURES}
    return Reference(seconds, {kind: MEASURES[kind]() / speeds[kind] for kind in MEASURES})


def configuration(arguments: Sequence[str]) -> str:
    """Return NAME of `--configfile config/NAME.yaml`; empty for anything else."""
    for index, argument in enumerate(arguments):
        key, _, value = argument.partition("=")
        if key in ("--configfile", "--configfiles"):
            path = Path(value or next(iter(arguments[index + 1 :]), ""))
            if path.suffix == ".yaml" and path.resolve().parent == Path("config").resolve():
                return path.stem
    return ""


def python_seconds() -> float:
    """Return the wall seconds of a fixed loop of Python."""
    started = time.perf_counter()
    total = 0
    for number in range(2_000_000):
        total += number & 7
    return time.perf_counter() - started


def matrix_seconds() -> float:
    """Return the wall seconds of fixed products of matrices, on one core as the jobs have it."""
    before = os.environ.get("OPENBLAS_NUM_THREADS")
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # read when numpy is imported
    try:
        import numpy  # here: only a run with reference times needs the library
    finally:
        if before is None:
            del os.environ["OPENBLAS_NUM_THREADS"]
        else:
            os.environ["OPENBLAS_NUM_THREADS"] = before
    one = numpy.full((512, 512), 0.5, dtype=numpy.float32)
    one @ one  # the first product prepares the library
    started = time.perf_counter()
    for _ in range(50):
        one @ one
    return time.perf_counter() - started


MEASURES: dict[str, Callable[[], float]] = {"python": python_seconds, "matrices": matrix_seconds}
