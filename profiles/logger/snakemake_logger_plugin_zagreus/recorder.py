"""Snakemake's events of jobs, appended to the run's own file."""

from __future__ import annotations

from typing import Any

from snakemake_interface_logger_plugins.common import LogEvent

from zagreus.live.events import EventLog, ranks_of

from .event_lines import INCOMPLETE, STOPPING


def record_event(log: EventLog, record: Any, left: float | None) -> None:
    """Append one LogRecord with Snakemake's attributes, where it tells how far a job is.

    Args:
        left: seconds that the rest of the run takes; None where nobody knows.
    """
    event, now = getattr(record, "event", None), record.created
    if event == LogEvent.JOB_INFO:
        resources = dict(record.resources or {})
        log.append(
            "job",
            now,
            id=record.jobid,
            log=list(record.log or []),
            ranks=ranks_of(resources),
            cpus=int(record.threads or 1),
        )
    elif event == LogEvent.JOB_FINISHED:
        log.append("done", now, id=record.job_id, left=None if left is None else round(left))
    elif event == LogEvent.JOB_ERROR:
        log.append("failed", now, id=record.jobid, log=list(record.log or []))
    elif event in (None, LogEvent.ERROR) and record.msg:
        message = record.getMessage()
        if incomplete := INCOMPLETE.search(message):
            log.append("failed", now, id=int(incomplete[1]))
        elif message.startswith(STOPPING):
            log.append("stopping", now)
