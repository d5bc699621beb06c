"""Checkpoints written while the training goes on."""

from __future__ import annotations

import threading
from pathlib import Path

from torch import Tensor

from zagreus.training import checkpoint
from zagreus.training.checkpoint import State


class CheckpointWriter:
    """Writes one checkpoint at a time, in a thread, from a copy in memory.

    The training waits for the copy alone, and for a write that
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
        optimizer_is_a_copy: bool = False,
    ) -> None:
        """Copy everything, and begin to write it to `folder`; then drop rolling saves (`prune`.

        See `checkpoint.prune`).

        Args:
            optimizer_is_a_copy: the optimizer's tensors lie on the CPU, and nobody changes them.

        Raises:
            InputError: the checkpoint before could not be written.
        """
        self.wait()
        copied_weights = _copies(weights)
        copied_optimizer = optimizer if optimizer_is_a_copy else _copies(optimizer)
        arguments = (folder, state, copied_weights, copied_optimizer, list(log), prune)
        self._thread = threading.Thread(target=self._write, args=arguments, name="checkpoint")
        self._thread.start()

    def wait(self) -> State | None:
        """Wait until the last checkpoint is written; return its state, with the files' hashes.

        Raise what writing it raised.
        """
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


def _copies(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return copies of tensors on the CPU."""
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}
