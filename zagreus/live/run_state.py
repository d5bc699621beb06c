"""What has happened in a run, from its events alone."""

from __future__ import annotations

import os
import platform
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zagreus.live.events import NAME, VERSION, process_start
from zagreus.live.lines import GrowingFile, json_lines

STATES = ("waiting", "queued", "running", "done", "failed", "stopped")


@dataclass
class Job:
    """A job of the newest start of a run.

    Attributes:
        number: Snakemake's.
        rule: its rule.
        name: rule and wildcards.
        state: one of `STATES`; `queued` is handed to a cluster and has not begun to write its log.
        started: seconds since the epoch, of the newest attempt; None before.
        ended: the same of its end.
        logs: paths as they were recorded.
        ranks: processes of training or GPUs that it holds.
        cpus: cores that it holds.
        attempts: how often it was started.
    """

    number: int
    rule: str
    name: str
    state: str = "waiting"
    started: float | None = None
    ended: float | None = None
    logs: list[str] = field(default_factory=list)
    ranks: int = 0
    cpus: int = 1
    attempts: int = 0


@dataclass
class Hours:
    """Hours that jobs held: of ranks, and of cores where a job held no rank."""

    ranks: float = 0.0
    cpus: float = 0.0


class RunState:
    """A run's events, taken in as the file grows."""

    def __init__(self, root: Path) -> None:
        """Remember the run's folder; `refresh` reads.

        Args:
            root: the results folder, which need not have events.
        """
        self.root = root
        self._file = GrowingFile(root / NAME)
        self._clear()

    def _clear(self) -> None:
        self.start: dict[str, Any] = {}
        self.jobs: dict[int, Job] = {}
        self.updated: float | None = None
        self.ended: float | None = None
        self.stopping: float | None = None
        self.left: float | None = None
        self.starts = 0
        self.newer = False
        self._hours = Hours()

    def refresh(self) -> None:
        """Take in the events that were written since the last call."""
        anew, lines = self._file.read()
        if anew:
            self._clear()
        for record in json_lines(lines):
            try:
                self._take(record)
            except (KeyError, TypeError, ValueError):
                continue  # edited by hand, or of another version
        self._look_for_logs()

    def _take(self, record: Mapping[str, Any]) -> None:
        event, moment = record["event"], float(record["time"])
        if event == "start":
            self._begin(record)
        self.updated = moment
        if event == "start":
            return
        if event in ("end", "stopping"):
            setattr(self, "ended" if event == "end" else "stopping", moment)
            if event == "end":
                self._stop(moment)
            return
        job = self.jobs.get(int(record["id"]))
        if job is None:
            return
        if event == "job":
            job.state = "queued"
            job.started, job.ended = moment, None
            job.logs = [str(log) for log in record["log"]]
            job.ranks, job.cpus = int(record["ranks"]), int(record["cpus"])
            job.attempts += 1
        elif event == "done":
            self._close(job, "done", moment)
            self.left = record.get("left")
        elif event == "failed":
            job.logs = [str(log) for log in record.get("log", ())] or job.logs
            self._close(job, "failed" if self.stopping is None else "stopped", moment)

    def _begin(self, record: Mapping[str, Any]) -> None:
        # Jobs of a start that was killed held their cores until its last event at least.
        self._stop(self.updated if self.ended is None else self.ended)
        self.start = dict(record)
        self.newer = int(record.get("version", 0)) > VERSION
        self.jobs = {
            int(number): Job(int(number), str(rule), str(name))
            for number, rule, name in record["jobs"]
        }
        self.ended = self.stopping = self.left = None
        self.starts += 1

    def _close(self, job: Job, state: str, moment: float) -> None:
        if job.started is not None and job.ended is None:
            hours = max(0.0, moment - job.started) / 3600
            self._hours.ranks += hours * job.ranks
            self._hours.cpus += 0.0 if job.ranks else hours * job.cpus
        job.state, job.ended = state, moment

    def _stop(self, moment: float | None) -> None:
        """Close the jobs that were left when a start ended."""
        for job in self.jobs.values():
            if job.state in ("queued", "running") and moment is not None:
                self._close(job, "stopped", moment)

    def _look_for_logs(self) -> None:
        """Tell jobs that run from those that a cluster's queue holds, by their logs."""
        local = self.start.get("executor") == "local"
        for job in self.jobs.values():
            if job.state == "queued":
                written = (_modified(self.path_of(log)) for log in job.logs)
                # Clocks of nodes differ; a log of an earlier attempt is minutes older.
                if local or any(moment > (job.started or 0) - 2 for moment in written):
                    job.state = "running"

    def path_of(self, recorded: str) -> Path:
        """Return where a file that the events name lies now."""
        results = str(self.start.get("folders", {}).get("results", ""))
        path = Path(recorded)
        if results and path.is_relative_to(results):
            return self.root / path.relative_to(results)
        return path

    def hours(self, now: float) -> Hours:
        """Return the hours that jobs of all starts have held until now."""
        total = Hours(self._hours.ranks, self._hours.cpus)
        for job in self.jobs.values():
            if job.state == "running" and job.started is not None:
                hours = max(0.0, now - job.started) / 3600
                total.ranks += hours * job.ranks
                total.cpus += 0.0 if job.ranks else hours * job.cpus
        return total

    def state(self) -> str:
        """Return how the run is: `unknown` (no events), running, done, failed, stopped, killed."""
        if not self.start:
            return "unknown"
        counts = self.counts()
        if self.ended is None:
            if not self._killed():
                return "running"
            return "killed"
        if counts["failed"]:
            return "failed"
        return "done" if counts["done"] == len(self.jobs) else "stopped"

    def _killed(self) -> bool:
        """Return whether the process that made the run is gone, where it ran on this machine."""
        host, number, started = (*self.start.get("process", ()), None, None, None)[:3]
        if host != platform.node() or not isinstance(number, int) or number == os.getpid():
            return False
        return process_start(number) != started

    def counts(self) -> Counter[str]:
        """Return the number of jobs in each state."""
        return Counter(job.state for job in self.jobs.values())

    def silence(self) -> float | None:
        """Return the seconds since the last event; None without events."""
        return None if self.updated is None else max(0.0, time.time() - self.updated)


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
