"""Signals that ask a post-training to end, before a time limit for one.

The step in hand is finished and saved first.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2)
# What a program exits with that was asked to stop, as scripts/pretrain.py does.
STATUS = 128 + signal.SIGTERM


class Stop:
    """Remembers that a signal came. Before the training there is nothing to save.

    It ends the program at once.
    """

    def __init__(self) -> None:
        self.training = False
        self._requested_at: float | None = None

    def listen(self) -> None:
        """Take the signals, from whoever had them."""
        for number in SIGNALS:
            signal.signal(number, self._remember)

    def waited(self) -> float | None:
        """Return the seconds since the first signal; None where none came."""
        return None if self._requested_at is None else time.monotonic() - self._requested_at

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if self._requested_at is None:
            self._requested_at = time.monotonic()
        if not self.training:
            # Not by an exception: the signal may come in the middle of an import, where Python
            # turns SystemExit into another error (seen in a dataclass of Axolotl's). What was begun
            # by then is found unfinished, and dropped, by the next run.
            _say("before the training")
            with suppress(RuntimeError):  # the signal came in the middle of a print
                sys.stdout.flush()
            os._exit(STATUS)


def leave(where: str) -> NoReturn:
    """End this process as one that goes on in another run.

    The launcher of a Slurm job puts the job back into the queue.
    """
    _say(where)
    sys.exit(STATUS)


def _say(where: str) -> None:
    os.write(sys.stderr.fileno(), f"stopped by a signal, {where}\n".encode())
    if "ZAGREUS_STOPPED" in os.environ:
        Path(os.environ["ZAGREUS_STOPPED"]).touch()


# One for the process: Axolotl makes the plugin that asks it.
STOP = Stop()
