"""Which rank is slow, and what is needed to say which one hangs.

Every rank times its own work in each step, from the step's begin to the end of its last backward
pass: without the sums of gradients, in which all wait for the slowest. Every `INTERVAL` steps the
ranks' means are gathered, and each rank leaves a note for zagreus/cluster/hang.py.
"""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from zagreus.atomic import atomic_file

INTERVAL = 100
# Of these steps of a run too, so that a run that hangs early has notes.
EARLY = (1, 2)


class Watch:
    """The times of this rank since the last look, and the number of collectives at that time."""

    def __init__(self, rank: int, count: int, device: torch.device, notes: Path | None) -> None:
        """Begin to watch; `notes` is the folder of the flight recorder, None without one."""
        self.rank, self.count, self.device, self.notes = rank, count, device, notes
        self.host = os.environ.get("SLURMD_NODENAME") or socket.gethostname()
        self.hosts: list[Any] = [self.host]
        if count > 1:
            self.hosts = [None] * count
            dist.all_gather_object(self.hosts, self.host)
        self._events = (
            [torch.cuda.Event(enable_timing=True) for _ in range(2)]
            if device.type == "cuda"
            else []
        )
        self._started = 0.0
        self._seconds, self._steps, self._run = 0.0, 0, 0
        self._noted: tuple[int, int] | None = None

    def begin(self) -> None:
        """A step begins."""
        self._started = time.perf_counter()
        if self._events:
            self._events[0].record()

    def computed(self) -> None:
        """The step's last backward pass was issued; on a CPU it has ended."""
        if self._events:
            self._events[1].record()
        else:
            self._seconds += time.perf_counter() - self._started

    def end(self, step: int) -> dict[str, Any]:
        """The step ended, and its loss was read back.

        Return what the log says of it every `INTERVAL`
        steps: `slowest_rank`, `slowest_host`, `slowest_lag` (its share behind the median)."""
        if self.count == 1:
            return {}
        if self._events:
            self._seconds += self._events[0].elapsed_time(self._events[1]) / 1000
        self._steps += 1
        self._run += 1
        if self._run in EARLY or step % INTERVAL == 0:
            self._note(step)
        if step % INTERVAL:
            return {}
        own = torch.tensor([self._seconds / self._steps], dtype=torch.float64, device=self.device)
        gathered = [torch.empty_like(own) for _ in range(self.count)]
        dist.all_gather(gathered, own)
        self._seconds, self._steps = 0.0, 0
        means = torch.cat(gathered)
        slowest, middle = int(means.argmax()), float(means.median())
        return {
            "slowest_rank": slowest,
            "slowest_host": self.hosts[slowest],
            "slowest_lag": round(float(means[slowest]) / middle - 1, 4) if middle else 0.0,
        }

    def _note(self, step: int) -> None:
        """Write the number of collectives up to the end of a step, and of one step."""
        if self.notes is None:
            return
        # The group's own count: the recorder's `collective_seq_id`.
        collectives = int(dist.group.WORLD._get_sequence_number_for_group())  # type: ignore[union-attr]
        per_step = 0
        if self._noted is not None and step > self._noted[0]:
            per_step = (collectives - self._noted[1]) // (step - self._noted[0])
        self._noted = (step, collectives)
        note = {"host": self.host, "step": step, "collectives": collectives, "per_step": per_step}
        self.notes.mkdir(parents=True, exist_ok=True)
        with atomic_file(self.notes / f"rank_{self.rank}.json") as partial:
            partial.write_text(json.dumps(note), encoding="utf-8")
