"""The trainings of a run and their scalars, while they run and afterwards.

A finished segment has its log (`pretrain/MODEL/STEP.jsonl`, `posttrain/MODEL/STAGE/log.jsonl`).
One that runs has TensorBoard's event file, which grows with each step; a stage of post-training has
the lines of its trainer in the job's log.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from zagreus.live.event_file import EventFileReader
from zagreus.live.lines import GrowingFile, json_lines

RECENT = 20  # steps of which the median is the speed
# What a trainer prints every few steps, and its progress bar.
PRINTED = re.compile(rb"\{'[a-z_]*loss'[^{}]*\}|\{'loss'[^{}]*\}")
BAR = re.compile(rb"(\d+)/(\d+) \[")
STAGES = {"sft": 0, "dpo": 1, "distill": 2}  # in the order in which they run
FINISHED_ONLY = ("train_runtime", "train_loss")


@dataclass
class Segment:
    """The scalars of a segment of pre-training, or of a stage of post-training.

    Attributes:
        points: one mapping a step, with `step`; a step that was made again replaces the earlier.
        last_step: where it ends; None where nobody knows yet.
        finished: whether its log is there.
        ranks: processes that train; None where nobody knows.
    """

    points: dict[int, dict[str, float]] = field(default_factory=dict)
    last_step: int | None = None
    finished: bool = False
    ranks: int | None = None


class SegmentReader:
    """A segment, read as its files grow."""

    def __init__(self, log: Path, events: Path | None = None, job_log: Path | None = None) -> None:
        """Remember where its log, its event files and the log of its job are."""
        self.segment = Segment()
        self._log, self._events, self._job_log = GrowingFile(log), events, job_log
        self._readers: dict[Path, EventFileReader] = {}
        self._printed: tuple[float, int] | None = None

    def refresh(self) -> Segment:
        """Return the segment as its files have it now."""
        anew, lines = self._log.read()
        if lines:
            if anew or not self.segment.finished:
                self.segment = Segment(finished=True)  # the log has all of it, in full precision
            self._add(json_lines(lines))
        elif anew:
            self.segment = Segment()
            self._readers.clear()
        if not self.segment.finished:
            self._read_events()
            self._read_job_log()
        return self.segment

    def _add(self, records: Iterable[Mapping[str, Any]]) -> None:
        for record in records:
            if record.get("event") == "start":
                self.segment.last_step = record.get("last_step", self.segment.last_step)
                self.segment.ranks = record.get("ranks", self.segment.ranks)
            elif isinstance(record.get("step"), (int, float)):
                step = int(record["step"])
                self.segment.points[step] = self.segment.points.get(step, {}) | scalars(record)

    def _read_events(self) -> None:
        if self._events is None or not self._events.is_dir():
            return
        for path in sorted(self._events.glob("events.out.tfevents.*")):
            anew, points = self._readers.setdefault(path, EventFileReader(path)).read()
            if anew:
                self.segment.points.clear()
            self._add(points)

    def _read_job_log(self) -> None:
        """Read what the trainer printed; the file is small, and read whole where it has changed."""
        if self._job_log is None:
            return
        try:
            stat = self._job_log.stat()
            if self._printed == (stat.st_mtime, stat.st_size):
                return
            text = self._job_log.read_bytes()
        except OSError:
            return
        self._printed = (stat.st_mtime, stat.st_size)
        self.segment.points = {}
        step, total = 0, _total(text)
        for match in re.finditer(BAR.pattern + b"|" + PRINTED.pattern, text):
            if match[1] is not None:
                if int(match[2]) == total:  # other bars are of maps and evaluations
                    step, self.segment.last_step = int(match[1]), total
                continue
            try:
                printed = ast.literal_eval(match[0].decode())
                values = {name: float(value) for name, value in printed.items()}
            except (ValueError, SyntaxError, TypeError, AttributeError):
                continue
            point = self.segment.points.setdefault(step, {"step": step})
            point |= {name: value for name, value in values.items() if name not in FINISHED_ONLY}


def _total(text: bytes) -> int | None:
    """Return the steps of the bar that stands before the first loss; None where none does."""
    first = text.find(b"{'loss'")
    bars = BAR.findall(text, 0, first) if first > 0 else []
    return int(bars[-1][1]) if bars else None


def scalars(record: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of a line of a training log; those of a mapping as `GROUP/NAME`."""
    flat = dict(record)
    for group, members in record.items():
        if isinstance(members, Mapping):
            flat |= {f"{group}/{name}": value for name, value in members.items()}
    return {
        name: value
        for name, value in flat.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    }


@dataclass(frozen=True)
class Training:
    """A model's training: its segments in order.

    Attributes:
        name: the model, and the stage of post-training where it is one.
        stage: `pretrain`, or the stage of post-training.
        segments: (checkpoint, segment).
    """

    name: str
    stage: str
    segments: list[tuple[str, Segment]]

    @property
    def points(self) -> list[dict[str, float]]:
        """The steps of all segments."""
        merged: dict[int, dict[str, float]] = {}
        for _, segment in self.segments:
            merged |= segment.points
        return [merged[step] for step in sorted(merged)]

    @property
    def finished(self) -> bool:
        """Whether each segment that has begun is finished."""
        return all(segment.finished for _, segment in self.segments)


class Trainings:
    """All trainings of a run, found by their files."""

    def __init__(self, root: Path, logs: Path) -> None:
        """Remember the folders.

        Args:
            root: the run's results.
            logs: of its jobs.
        """
        self.root, self.logs = root, logs
        self._readers: dict[tuple[str, str, str], SegmentReader] = {}

    def refresh(self) -> list[Training]:
        """Return the trainings that have begun, as they are now."""
        for key in self._keys():
            if key not in self._readers:
                self._readers[key] = self._reader(*key)
        trainings: dict[tuple[str, str], list[tuple[str, Segment]]] = {}
        for (kind, model, checkpoint), reader in sorted(self._readers.items(), key=_order):
            segment = reader.refresh()
            if segment.points:
                stage = checkpoint if kind == "posttrain" else kind
                trainings.setdefault((model, stage), []).append((checkpoint, segment))
        return [Training(model, stage, segments) for (model, stage), segments in trainings.items()]

    def _keys(self) -> set[tuple[str, str, str]]:
        trainings = set()
        for path in self.root.glob("pretrain/*/*.jsonl"):
            trainings.add(("pretrain", path.parent.name, path.stem))
        for path in self.root.glob("pretrain/*/tensorboard/*"):
            trainings.add(("pretrain", path.parents[1].name, path.name))
        for path in (*self.root.glob("posttrain/*/*/log.jsonl"),):
            trainings.add(("posttrain", path.parents[1].name, path.parent.name))
        for path in self.logs.glob("posttrain/*/*.log"):
            trainings.add(("posttrain", path.parent.name, path.stem))
        return trainings

    def _reader(self, kind: str, model: str, checkpoint: str) -> SegmentReader:
        folder = self.root / kind / model
        if kind == "pretrain":
            return SegmentReader(
                folder / f"{checkpoint}.jsonl", folder / "tensorboard" / checkpoint
            )
        job_log = self.logs / kind / model / f"{checkpoint}.log"
        return SegmentReader(folder / checkpoint / "log.jsonl", job_log=job_log)


def _order(item: tuple[tuple[str, str, str], SegmentReader]) -> tuple[Any, ...]:
    kind, model, checkpoint = item[0]
    # Post-training comes after pre-training, DPO after SFT, steps by their number.
    number = int(checkpoint) if checkpoint.isdigit() else STAGES.get(checkpoint, len(STAGES))
    return kind == "posttrain", model, number, checkpoint


def seconds_left(points: list[dict[str, float]], last_step: int | None) -> float | None:
    """Return the seconds that a training takes to its last step, by its last steps' median."""
    recent = [point["seconds"] for point in points[-RECENT:] if "seconds" in point]
    if not recent or last_step is None:
        return None
    return max(0.0, (last_step - points[-1]["step"]) * median(recent))
