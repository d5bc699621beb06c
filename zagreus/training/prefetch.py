"""Batches read ahead of the training, by a thread."""

from __future__ import annotations

import queue
import threading
from dataclasses import dataclass

from zagreus.training.batches import Batches, MicroBatch

_AHEAD = 2  # steps; a step's batch is some megabytes


@dataclass
class StepData:
    """What a step needs of the data.

    A rank's micro batches, what has been drawn up to its end, and where the batch came from.
    """

    micro_batches: list[MicroBatch]
    drawn: list[list[int]]
    origin: str


class Prefetch:
    """Hands out the data of one step after the other, up to `last`.

    An error while reading comes out in its step's turn.
    """

    def __init__(self, batches: Batches, last: int) -> None:
        self._queue: queue.Queue[StepData | Exception] = queue.Queue(_AHEAD)
        threading.Thread(
            target=self._read, args=(batches, last), daemon=True, name="batches"
        ).start()

    def next(self) -> StepData:
        """Return the next step's data, waiting for it where it is not read yet.

        Raise what reading it raised.
        """
        item = self._queue.get()
        if isinstance(item, Exception):
            raise item
        return item

    def _read(self, batches: Batches, last: int) -> None:
        try:
            while batches.step < last:
                micro_batches = batches.next()
                self._queue.put(
                    StepData(
                        micro_batches, [list(counts) for counts in batches.drawn], batches.origin()
                    )
                )
        except Exception as error:  # whatever it is, it belongs to the step that waits for it
            self._queue.put(error)
