"""What people see of a training while it runs.

A line of what to expect, a progress bar, TensorBoard's file.
"""

from __future__ import annotations

import json
import sys
from datetime import timedelta
from pathlib import Path
from statistics import median
from typing import Any

from tqdm import tqdm

from zagreus.training.events import EventFile

_MEASURED = 5  # steps, after which the rest can be foretold; the first one of a process is slow


class Display:
    """Shows the records of a training, on the rank that has it."""

    def __init__(self, log: list[str], step: int, last: int, events: Path) -> None:
        """Begin at a step, with the log's lines so far, which the event file begins with."""
        self.last, self.seconds, self.tokens_per_step = (
            last,
            list[float](),
            json.loads(log[0])["tokens_per_step"],
        )
        self.events = EventFile(events)
        for line in log[1:]:
            self.events.add(json.loads(line))
        self.bar = tqdm(
            initial=step,
            total=last,
            unit="step",
            mininterval=5,
            file=sys.stderr,
            dynamic_ncols=True,
        )

    def show(self, record: dict[str, Any]) -> None:
        """Show a step."""
        self.events.add(record)
        share = "" if record["mfu"] is None else f", MFU {record['mfu']:.1%}"
        text = (
            f"loss {record['loss']:.3f}, lr {record['learning_rate']:.2e}, "
            f"{record['tokens_per_second']:.0f} tokens/s{share}"
        )
        if "heldout_loss" in record:
            self.bar.write(
                f"step {record['step']}: held-out loss {record['heldout_loss']:.4f}",
                file=sys.stderr,
            )
        self.bar.set_postfix_str(text, False)
        self.bar.update()
        self.seconds.append(record["seconds"])
        if len(self.seconds) == _MEASURED and record["step"] < self.last:
            typical, left = median(self.seconds), self.last - record["step"]
            speed = self.tokens_per_step / typical
            expected = timedelta(seconds=round(left * typical))
            self.bar.write(
                f"expected: {left} more steps in {expected} ({speed:.0f} tokens/s)", file=sys.stderr
            )

    def close(self) -> None:
        """End bar and file."""
        self.bar.close()
        self.events.close()
