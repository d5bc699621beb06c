"""Signals that ask a post-training to end, before a time limit for one: the step in hand is finished and saved first."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import NoReturn

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2)
# What a program exits with that was asked to stop, as scripts/pretrain.py does.
STATUS = 128 + signal.SIGTERM


class Stop:
    """Remembers that a signal came. Before the training there is nothing to save: it ends the program at once."""

    def __init__(self) -> None:
        self.training = False
        self._asked: float | None = None

    def listen(self) -> None:
        """Take the signals, from whoever had them."""
        for number in SIGNALS:
            signal.signal(number, self._remember)

    def waited(self) -> float | None:
        """Return the seconds since the first signal; None where none came."""
        return None if self._asked is None else time.monotonic() - self._asked

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if self._asked is None:
            self._asked = time.monotonic()
        if not self.training:
            leave("before the training")


def leave(where: str) -> NoReturn:
    """End this process as one that goes on in another run; the launcher of a Slurm job puts the job back into the queue."""
    print(f"stopped by a signal, {where}", file=sys.stderr)
    if "ZAGREUS_STOPPED" in os.environ:
        Path(os.environ["ZAGREUS_STOPPED"]).touch()
    sys.exit(STATUS)


# One for the process: Axolotl makes the plugin that asks it.
STOP = Stop()
