"""Checkpoints written while the training goes on."""

from __future__ import annotations

import threading
from pathlib import Path

from torch import Tensor

from zagreus.training import checkpoint
from zagreus.training.checkpoint import State


class CheckpointWriter:
    """Writes one checkpoint at a time, in a thread, from a copy in memory: the training waits for the copy alone, and for a write that
    is not finished when the next one is due."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None
        self._written: State | None = None

    def save(
        self,
        folder: Path,
        state: State,
        weights: dict[str, Tensor],
        optimizer: dict[str, Tensor],
        log: list[str],
        prune: tuple[int, int, int],
    ) -> None:
        """Copy everything, and begin to write it to `folder`; then drop rolling saves (`prune`: see `checkpoint.prune`).

        Raises:
            InputError: the checkpoint before could not be written.
        """
        self.wait()
        copies = [{name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()} for tensors in (weights, optimizer)]
        self._thread = threading.Thread(target=self._write, args=(folder, state, *copies, list(log), prune), name="checkpoint")
        self._thread.start()

    def wait(self) -> State | None:
        """Wait until the last checkpoint is written; return its state, with the files' hashes; raise what writing it raised."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        return self._written

    def _write(
        self,
        folder: Path,
        state: State,
        weights: dict[str, Tensor],
        optimizer: dict[str, Tensor],
        log: list[str],
        prune: tuple[int, int, int],
    ) -> None:
        try:
            self._written = checkpoint.save(folder, state, weights, optimizer, log)
            checkpoint.prune(folder.parent, *prune)
        except Exception as error:  # raised where the training waits
            self._error = error
