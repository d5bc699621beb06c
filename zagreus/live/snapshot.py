"""The whole of a run as the live page shows the run: one JSON object."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from statistics import fmean, median
from typing import Any

from zagreus.credentials import mask
from zagreus.live.events import NAME
from zagreus.live.layers import direct_links, layers
from zagreus.live.lines import last_lines
from zagreus.live.run_state import STATES, Job, RunState
from zagreus.live.trainings import RECENT, Training, Trainings, seconds_left

SHOWN = {"running": 60, "failed": 40, "stopped": 20, "queued": 60, "done": 30, "waiting": 200}
TAILS = {"running": 1, "failed": 12}  # lines of a job's log
OPENED = 40  # lines of a log that is opened
CHART = 240  # points of a curve; a page of a phone has fewer pixels
LONGEST_LINE = 400  # characters
CURVES = ("loss", "heldout_loss", "eval_loss")


class Snapshots:
    """A run, looked at again and again."""

    def __init__(self, root: Path) -> None:
        """Begin to look at a results folder; nothing is ever written into the folder."""
        self.root = root
        self.run = RunState(root)
        self._trainings: Trainings | None = None

    def take(self, opened: Collection[int] = ()) -> dict[str, Any]:
        """Return the run as it is now.

        Args:
            opened: numbers of the jobs whose logs the reader has opened.
        """
        self.run.refresh()
        now = time.time()
        logs = self.run.path_of(self.run.start.get("folders", {}).get("logs", self.root / "logs"))
        if self._trainings is None or self._trainings.logs != logs:
            self._trainings = Trainings(self.root, logs)
        trainings = self._trainings.refresh()
        counts = self.run.counts()
        state = self.run.state()
        return {
            "run": str(self.root),
            "state": state,
            "note": self._note(state),
            "now": now,
            "started": self.run.start.get("time"),
            "ended": self.run.ended,
            "updated": self.run.updated,
            "left": _left(self.run, now) if state == "running" else None,
            "counts": {name: counts[name] for name in STATES if counts[name]},
            "total": len(self.run.jobs),
            "layers": self._layers(),
            "links": direct_links([(a, b) for a, b in self.run.start.get("links", ())]),
            "jobs": self._jobs(opened),
            "trainings": [self._training(training) for training in trainings],
            "cost": self._cost(now),
        }

    def _note(self, state: str) -> str | None:
        if state == "unknown":
            return (
                f"{self.root / NAME}: no such file (the run was made by an older version, or has "
                "not started): trainings are shown, jobs are not"
            )
        if self.run.newer:
            return f"{self.root / NAME} was written by a newer version; some of it may be missing"
        if state == "killed":
            return "the process that made the run is gone without a last word (killed, or no power)"
        return None

    def _layers(self) -> list[list[dict[str, Any]]]:
        there: Mapping[str, int] = self.run.start.get("there", {})
        counts: dict[str, dict[str, int]] = {rule: {} for rule in there}
        for job in self.run.jobs.values():
            of_rule = counts.setdefault(job.rule, {})
            of_rule[job.state] = of_rule.get(job.state, 0) + 1
        links = [(a, b) for a, b in self.run.start.get("links", ())]
        return [
            [{"rule": rule, "there": there.get(rule, 0), "counts": counts[rule]} for rule in layer]
            for layer in layers(counts, links)
        ]

    def _jobs(self, opened: Collection[int]) -> dict[str, list[dict[str, Any]]]:
        by_state: dict[str, list[Job]] = {state: [] for state in STATES}
        for job in self.run.jobs.values():
            by_state[job.state].append(job)
        by_state["done"].sort(key=lambda job: -(job.ended or 0.0))
        described = {}
        for state, jobs in by_state.items():
            shown = jobs[: SHOWN[state]]
            shown += [job for job in jobs[SHOWN[state] :] if job.number in opened]
            described[state] = [self._job(job, opened) for job in shown]
        return described

    def _job(self, job: Job, opened: Collection[int]) -> dict[str, Any]:
        count = OPENED if job.number in opened else TAILS.get(job.state, 0)
        lines: list[str] = []
        if count:
            # A path that the events name is read only where it is a log.
            paths = [self.run.path_of(log) for log in job.logs if log.endswith(".log")]
            for path in paths:
                if path.is_file():
                    lines += last_lines(path, count, (job.started or 0.0) - 2)
        return {
            "id": job.number,
            "name": job.name,
            "rule": job.rule,
            "started": job.started,
            "ended": job.ended,
            "attempts": job.attempts,
            "log": ", ".join(job.logs),
            "lines": [mask(line[:LONGEST_LINE]) for line in lines[-count:]] if count else [],
        }

    def _training(self, training: Training) -> dict[str, Any]:
        points = training.points
        newest = points[-1]
        checkpoint, segment = training.segments[-1]
        checkpoints = self.run.start.get("models", {}).get(training.name, [])
        last = segment.last_step
        if training.stage == "pretrain":
            numbers = [int(step) for step in (*checkpoints, checkpoint) if str(step).isdigit()]
            last = max([last or 0, *numbers])
        speeds = [p["tokens_per_second"] for p in points[-RECENT:] if "tokens_per_second" in p]
        left = seconds_left(points, last)
        running = self._is_running(training)
        return {
            "name": training.name,
            "stage": training.stage,
            "state": "running" if running else "done" if training.finished else "waiting",
            "step": newest["step"],
            "last_step": last,
            "loss": _newest(points, "loss"),
            "heldout_loss": _newest(points, "heldout_loss") or _newest(points, "eval_loss"),
            "learning_rate": _newest(points, "learning_rate"),
            "tokens": _newest(points, "tokens"),
            "tokens_per_second": median(speeds) if speeds else None,
            "left": left if running else None,
            "curves": {
                name: thinned([(p["step"], p[name]) for p in points if name in p])
                for name in CURVES
            },
        }

    def _is_running(self, training: Training) -> bool:
        rule = "pretrain" if training.stage == "pretrain" else "posttrain"
        checkpoint, segment = training.segments[-1]
        return any(
            job.rule == rule
            and job.state == "running"
            and f"model={training.name} " in f"{job.name} "
            and f"={checkpoint} " in f"{job.name} "
            for job in self.run.jobs.values()
        )

    def _cost(self, now: float) -> dict[str, Any]:
        hours, plan = self.run.hours(now), self.run.start.get("plan", {})
        prices = plan.get("prices")
        return {
            "rank_hours": hours.ranks,
            "cpu_hours": hours.cpus,
            "max_rank_hours": plan.get("max_rank_hours"),
            "cost": hours.ranks * prices["rank_hour"] + hours.cpus * prices["cpu_hour"]
            if prices
            else None,
            "currency": prices["currency"] if prices else None,
            "max_cost": plan.get("max_cost"),
            "starts": self.run.starts,
        }


def _left(run: RunState, now: float) -> float | None:
    """Return the seconds left, from what the newest finished job's event says."""
    if run.left is None or run.updated is None:
        return None
    return max(0.0, run.left - (now - run.updated))


def _newest(points: Sequence[Mapping[str, float]], name: str) -> float | None:
    return next((point[name] for point in reversed(points) if name in point), None)


def thinned(curve: Sequence[tuple[float, float]], count: int = CHART) -> list[list[float]]:
    """Return a curve of at most `count` points: means of equal parts, the last point as it is."""
    if len(curve) <= count:
        return [[x, float(f"{y:.6g}")] for x, y in curve]
    size = -(-len(curve) // (count - 1))
    parts = [curve[start : start + size] for start in range(0, len(curve), size)]
    means = [[part[-1][0], float(f"{fmean(y for _, y in part):.6g}")] for part in parts]
    return [*means[:-1], [curve[-1][0], float(f"{curve[-1][1]:.6g}")]]
