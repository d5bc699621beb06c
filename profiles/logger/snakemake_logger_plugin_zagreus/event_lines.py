"""Snakemake's events, told in lines."""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from logging import ERROR, WARNING
from typing import Any

from snakemake_interface_logger_plugins.common import LogEvent

from zagreus.live.lines import last_lines

from .estimate import Estimate
from .reference import Reference

LAST = 20  # lines of a failed job's log
SHOWN = 4  # running jobs in the live block
# What Snakemake says on the way that tells a reader nothing about this run.
NOISE = re.compile(
    "Building DAG|Using shell|Provided cores|Rules claiming|Select jobs|Execute |Activating "
    "|Assuming unrestricted|Removing output files of failed"
    "|Elapsed time|Exiting because|Shutting down|WorkflowError:\nAt least one job did not complete"
)
COMMAND_FAILED = re.compile(
    r"CalledProcessError in file .* (?:returned non-zero|died with) (exit status \d+|<Signals.*>)",
    re.DOTALL,
)
INCOMPLETE = re.compile(
    r"Job (\d+) +completed successfully, but some output files are missing"
)  # no JOB_ERROR follows
STOPPING = "Terminating processes on user request"
# The last line of a program of this repository that wrote a traceback above (zagreus/failures.py).
UNFORESEEN = re.compile(r"^(?:rank \d+ on \S+: )?error: .*; traceback: ")

Line = tuple[str, str | None]


@dataclass
class Job:
    """A job that runs or has failed."""

    name: str
    started: float
    logs: list[str]


class EventLines:
    """What has happened in a run."""

    def __init__(self, reference: Reference | None = None) -> None:
        self.reference = reference
        self.estimate = Estimate({})
        self.total = 0
        self.since = time.time()
        self.running: dict[int, Job] = {}
        self.failed: dict[int, Job] = {}
        self.errors = self.interrupted = False
        self._statuses: deque[str] = deque()  # how commands ended whose JOB_ERROR is still to come

    def lines(self, record: Any, every_job: bool) -> Iterator[Line]:
        """Take one LogRecord with Snakemake's attributes; yield the lines that stay, with a style.

        `every_job`: a line for each finished job.
        """
        event, now = getattr(record, "event", None), record.created
        if event == LogEvent.RUN_INFO:
            counts = {rule: count for rule, count in record.stats.items() if rule != "total"}
            self.estimate = Estimate(counts, self.reference)
            self.total, self.since = sum(counts.values()), now
            yield (
                f"{_jobs(self.total)}: "
                f"{', '.join(f'{rule} {count}' for rule, count in counts.items())}",
                None,
            )
        elif event == LogEvent.JOB_INFO:
            name = " ".join(
                [
                    record.rule_name,
                    *(f"{key}={value}" for key, value in (record.wildcards or {}).items()),
                ]
            )
            self.running[record.jobid] = Job(name, now, list(record.log or []))
            self.failed.pop(record.jobid, None)  # it is tried again
            self.estimate.start(record.jobid, record.rule_name, now, record.benchmark)
        elif event == LogEvent.JOB_FINISHED and record.job_id in self.running:
            job = self.running.pop(record.job_id)
            self.estimate.stop(record.job_id, now)
            if every_job:
                yield (
                    (
                        f"{_clock(now)}  {self._done()}  {job.name} ({_span(now - job.started)})   "
                        f"{self._left(now)}"
                    ).rstrip(),
                    None,
                )
        elif event == LogEvent.JOB_ERROR:
            yield from self._failure(record, now)
        elif event == LogEvent.PROGRESS:
            self.total = record.total  # a checkpoint rule may have added jobs
        elif (
            event in (None, LogEvent.ERROR)
            and record.msg
            and not NOISE.match(message := record.getMessage())
        ):
            if status := COMMAND_FAILED.search(message):
                self._statuses.append(f", with {status[1]}")
                return  # the rest is told by the JOB_ERROR that follows
            if incomplete := INCOMPLETE.search(message):
                self._fail(int(incomplete[1]), now)
            self.interrupted |= message.startswith(STOPPING)
            self.errors |= record.levelno >= ERROR
            yield (
                message,
                "error"
                if record.levelno >= ERROR
                else "warning"
                if record.levelno >= WARNING
                else None,
            )

    def block(self, now: float) -> list[str]:
        """Return the live block: how far the run is, and what the running jobs' logs say."""
        # A job without a log file writes to the terminal itself: nothing is drawn into its words.
        if self._finished() or not all(job.logs for job in self.running.values()):
            return []
        block = [
            f"{_clock(now)}  {self._done()}  {_span(now - self.since)} so far   "
            f"{self._left(now)}".rstrip()
        ]
        for job in list(self.running.values())[:SHOWN]:
            said = [line for log in job.logs for line in last_lines(log, 1, job.started)]
            block.append(
                f"  {job.name} ({_span(now - job.started)})  {' '.join(said[-1:])}".rstrip()
            )
        if len(self.running) > SHOWN:
            block.append(f"  and {len(self.running) - SHOWN} more")
        return block

    def end(self) -> Iterator[Line]:
        """Yield how the run ended; nothing where none began."""
        if not self.total:
            return
        done, took = self.estimate.done.total(), _span(time.time() - self.since)
        if self.failed or (self.errors and done < self.total):
            yield (
                f"{_clock(time.time())}  FAILED: {len(self.failed)} of {_jobs(self.total)} "
                f"failed, {done} done, in {took}",
                "error",
            )
            for job in self.failed.values():
                yield f"  {job.name}: {', '.join(job.logs) or 'no log file'}", "error"
        elif done < self.total:
            yield (
                f"{_clock(time.time())}  STOPPED: {done} of {_jobs(self.total)} done, in {took}; "
                "the same command goes on from here",
                "warning",
            )
        else:
            yield f"{_clock(time.time())}  {_jobs(self.total)} done, in {took}", "good"

    def _fail(self, number: int, now: float) -> Job | None:
        """Count a job as failed; return it where it was known to run."""
        job = self.running.pop(number, None)
        if job:
            self.estimate.stop(number, now, success=False)
            self.failed[number] = job
        return job

    def _failure(self, record: Any, now: float) -> Iterator[Line]:
        status = self._statuses.popleft() if self._statuses else ""
        if self.interrupted:
            self.running.pop(record.jobid, None)
            return  # ended by whoever ended the run
        job = self._fail(record.jobid, now) or Job(record.rule_name, now, [])
        job.logs = list(record.log or [])  # with those that the executor keeps
        self.failed[record.jobid] = job
        yield (
            f"{_clock(now)}  FAILED  {job.name}, after {_span(now - job.started)}{status}",
            "error",
        )
        if record.rule_msg:
            yield f"  {record.rule_msg}", "error"
        if not job.logs:
            yield f"  it has no log file; its command: {(record.shellcmd or 'none').strip()}", None
        for log in job.logs:
            last = last_lines(log, LAST)
            # The traceback is in the log; the line that ends it says what failed.
            last = [line for line in last if UNFORESEEN.match(line)] or last
            yield (
                f"  {'the end of its log' if last else 'nothing stands in its log'}; the whole: "
                f"{log}",
                "error",
            )
            yield from ((f"    {line}", None) for line in last)

    def _done(self) -> str:
        return f"{self.estimate.done.total():>{len(str(self.total))}}/{self.total}"

    def _finished(self) -> bool:
        return self.estimate.done.total() >= self.total

    def _left(self, now: float) -> str:
        left = self.estimate.left(now)
        if left is None or self._finished() or self.failed:
            return ""  # after a failure it depends on what still can run
        remaining = self.total - self.estimate.done.total()
        untimed = (
            f" ({left[1]} jobs of a kind not timed yet)" if left[1] > max(2, remaining / 4) else ""
        )
        return f"about {_span(left[0])} left{untimed}"


def _jobs(count: int) -> str:
    return f"{count} job{'' if count == 1 else 's'}"


def _clock(now: float) -> str:
    return time.strftime("[%H:%M:%S]", time.localtime(now))


def _span(seconds: float) -> str:
    """Return a time as a person would say it: 35 s, 9 min, 2 h 05 min, 3 d 4 h."""
    if seconds < 100:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60:02} min"
    return f"{minutes // 1440} d {minutes % 1440 // 60} h"
