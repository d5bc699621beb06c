"""The scalars of a run's trainings in a tracker: what is new of them, each time it is asked."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from zagreus.atomic import atomic_file
from zagreus.errors import InputError
from zagreus.live.trackers import Points, Tracker
from zagreus.live.trainings import Training, Trainings

SENT = "sent.json"
# Relative: event files hold 32-bit floats, logs 64-bit ones.
SAME = 1e-6


@dataclass
class Sent:
    """How far a training is in the tracker.

    Attributes:
        step: the last one that is there; -1 before the first.
        loss: at that step, by which the same training is known again.
        copy: 1 for the first, 2 where the training was made anew as another one, and so on.
    """

    step: int = -1
    loss: float | None = None
    copy: int = 1


def mirror(run: Path, folder: Path, tracker: Tracker, live: bool) -> Iterator[str]:
    """Bring a tracker up to date; yield one line for each training.

    Args:
        run: the results folder; it is only read.
        folder: the tracker's, which also holds how far each training is.
        tracker: writes into the folder, or to its server.
        live: whether segments that still run are sent too, as rounded as their event files are.
    """
    sent = _read(folder / SENT)
    for training in Trainings(run, run / "logs").refresh():
        name = f"{training.name}-{training.stage}"
        points = _points(training, live)
        if not points:
            continue
        known = sent.setdefault(name, Sent())
        if not _goes_on(known, points):
            known = sent[name] = Sent(copy=known.copy + 1)
        new = [point for point in points if point["step"] > known.step]
        shown = name if known.copy == 1 else f"{name}-{known.copy}"
        if new:
            identity = hashlib.sha256(f"{run.name}/{shown}".encode()).hexdigest()[:16]
            tracker.write(identity, shown, new)
            known.step = int(new[-1]["step"])
            known.loss = new[-1].get("loss")
            # After each training: one that fails sends only itself again.
            _write(folder / SENT, sent)
        yield f"{shown}: {len(new)} new of {len(points)} steps"


def _points(training: Training, live: bool) -> Points:
    merged: dict[int, dict[str, float]] = {}
    for _, segment in training.segments:
        if segment.finished or live:
            merged |= segment.points
    return [merged[step] for step in sorted(merged)]


def _goes_on(known: Sent, points: Points) -> bool:
    """Return whether the points are of the training that the tracker has."""
    if known.step < 0:
        return True
    last = next((point for point in points if point["step"] == known.step), None)
    if last is None:
        return False
    loss = last.get("loss")
    if loss is None or known.loss is None:
        return loss == known.loss
    return math.isclose(loss, known.loss, rel_tol=SAME)


def _read(path: Path) -> dict[str, Sent]:
    if not path.is_file():
        return {}
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        return {name: Sent(**entry) for name, entry in entries.items()}
    except (ValueError, TypeError, AttributeError):
        raise InputError(
            f"{path}: not a list of what was sent; remove the folder to send all again"
        ) from None


def _write(path: Path, sent: dict[str, Sent]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as partial:
        text = json.dumps({name: asdict(entry) for name, entry in sent.items()}, indent=1)
        partial.write_text(text + "\n", encoding="utf-8")
