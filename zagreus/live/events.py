"""The events of a run: one file of JSON lines in the run's folder, `events.jsonl`.

The run appends to the file and never reads the file. Each start of the workflow appends a `start`
line with all jobs that it has to make; `job`, `done`, `failed`, `stopping` and `end` follow.
A line that cannot be written (a full disk) ends the recording, never the run.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import sys
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zagreus.config.checkpoints import checkpoints
from zagreus.recipe.ladder import rung_entries

NAME = "events.jsonl"
# Of the lines; a reader says so where a file has a later one.
VERSION = 1


class EventLog:
    """The file, open for appending only."""

    def __init__(self, path: Path) -> None:
        """Begin to append; a line that an earlier run did not finish is ended first."""
        self.path: Path | None = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.is_file() and path.stat().st_size and not _ends_with_newline(path):
                self._write("\n")
        except OSError as error:
            self._give_up(error)

    def append(self, event: str, moment: float | None = None, **facts: Any) -> None:
        """Append an event.

        Args:
            event: `start`, `job`, `done`, `failed`, `stopping` or `end`.
            moment: seconds since the epoch; now, when it is left out.
            facts: of the event; values are JSON.
        """
        if self.path is None:
            return
        record = {"event": event, "time": round(moment or time.time(), 3), **facts}
        try:
            self._write(json.dumps(record, ensure_ascii=False, separators=(",", ":")) + "\n")
        except (OSError, ValueError, TypeError) as error:
            self._give_up(error)

    def _write(self, text: str) -> None:
        assert self.path is not None
        # One write a line: a reader never sees two lines mixed.
        file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            os.write(file, text.encode("utf-8", errors="replace"))
        finally:
            os.close(file)

    def _give_up(self, error: Exception) -> None:
        reason = getattr(error, "strerror", None) or error
        with contextlib.suppress(OSError):
            print(
                f"warning: {self.path}: cannot be written ({reason}); the live page misses the "
                "rest of this run",
                file=sys.stderr,
            )
        self.path = None


_current: EventLog | None = None


def current() -> EventLog | None:
    """Return the log of the run that this process makes; None before the run has started."""
    return _current


def record_start(workflow: Any, config: Mapping[str, Any]) -> None:
    """Append what the run has to make; the Snakefile calls it before the first job.

    Args:
        workflow: Snakemake's, with its DAG.
        config: the whole configuration.
    """
    global _current
    folders = config["pathvars"]
    _current = EventLog(Path(folders["results"]) / NAME)
    dag = workflow.dag
    needed = [job for job in dag.needrun_jobs() if not job.is_group()]
    there = Counter(job.rule.name for job in dag.jobs)
    there.subtract(job.rule.name for job in needed)
    links = {
        (source.rule.name, job.rule.name)
        for job in dag.jobs
        for source in dag.dependencies[job]
        if source.rule.name != job.rule.name
    }
    _current.append(
        "start",
        version=VERSION,
        process=[platform.node(), os.getpid(), process_start(os.getpid())],
        executor=workflow.executor_plugin.name,
        folders={name: folders[name] for name in ("results", "logs", "benchmarks")},
        jobs=[
            [dag.jobid(job), job.rule.name, job_name(job.rule.name, job.wildcards_dict)]
            for job in needed
        ],
        there={rule: count for rule, count in there.items() if count > 0},
        links=sorted(links),
        models={
            name: checkpoints(entry)
            for name, entry in {
                **config["models"],
                **{name: {"pretrain": rung} for name, rung in rung_entries(config).items()},
            }.items()
        },
        plan={
            key: value
            for key, value in config.get("plan", {}).items()
            if key in ("prices", "max_cost", "max_rank_hours")
        },
    )


def job_name(rule: str, wildcards: Mapping[str, Any] | None) -> str:
    """Return a job's rule with its wildcards, as people tell jobs apart."""
    return " ".join([rule, *(f"{key}={value}" for key, value in (wildcards or {}).items())])


def ranks_of(resources: Mapping[str, Any]) -> int:
    """Return how many ranks a job holds: its processes of training, or its GPUs; else 0.

    Args:
        resources: of the job, as Snakemake has them.
    """
    nodes = int(resources.get("nodes", 1) or 1)
    if "ranks" in resources:
        return nodes * int(resources["ranks"])
    count = str(resources.get("gres") or "0").rpartition(":")[2]
    return nodes * int(count) if count.isdigit() else 0


def process_start(number: int) -> int | None:
    """Return when a process started, in clock ticks since the boot; None where it is gone.

    With the number it names one process: numbers are used again (proc(5), field 22 of stat).
    """
    try:
        stat = Path(f"/proc/{number}/stat").read_text(encoding="utf-8", errors="replace")
        return int(stat.rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None


def _ends_with_newline(path: Path) -> bool:
    with open(path, "rb") as stream:
        stream.seek(-1, os.SEEK_END)
        return stream.read(1) == b"\n"
