"""An ONNX file in onnxruntime, on the CPU."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy
import onnxruntime

from zagreus.errors import InputError
from zagreus.export.machine import check_memory

# The file as bytes, its message, the weights, and what a prompt needs: peaks were 3.0 to 4.5 times
# the file, the largest factors for the smallest files, which the working memory covers.
COPIES = 4


class OnnxRuntime:
    """A model in onnxruntime, with what it keeps of earlier positions. Use it as a context."""

    def __init__(self, path: Path, context: int, threads: int = 1) -> None:
        """Load a file.

        Args:
            path: the ONNX file, as `write_onnx` makes one.
            context: the longest sequence, in tokens.
            threads: of computation.

        Raises:
            InputError: onnxruntime cannot read the file, or memory does not suffice.
        """
        if not path.is_file():
            raise InputError(f"{path}: no such file, expected an ONNX file")
        check_memory(path, context, copies=COPIES)
        self.path = path
        self.set_threads(threads)
        self._past: dict[str, numpy.ndarray] = {}
        self.clear()

    def __enter__(self) -> OnnxRuntime:
        return self

    def __exit__(self, *_: object) -> None:
        del self._session

    @property
    def vocab_size(self) -> int:
        """Number of logits of a position."""
        return int(self._session.get_outputs()[0].shape[-1])

    def set_threads(self, threads: int) -> None:
        """Load the file anew, with this number of threads."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 4
        # Threads that wait give their core away.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session: Any = onnxruntime.InferenceSession(
                str(self.path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's own classes share no other base
            reason = str(error).splitlines()[0][:200]
            raise InputError(f"{self.path}: onnxruntime cannot load it ({reason})") from None

    def clear(self) -> None:
        """Forget what was decoded."""
        self._past = {
            item.name: numpy.zeros((1, item.shape[1], 0, item.shape[3]), dtype=numpy.float32)
            for item in self._session.get_inputs()
            if item.name.startswith("past_key_values.")
        }

    def decode(self, ids: Sequence[int], start: int = 0) -> numpy.ndarray:
        """Run the model on tokens at the positions `start`... and return their logits."""
        feed = self._past | {
            "input_ids": numpy.array([list(ids)], dtype=numpy.int64),
            "position_ids": numpy.arange(start, start + len(ids), dtype=numpy.int64)[None],
        }
        names = [item.name for item in self._session.get_outputs()]
        outputs = dict(zip(names, self._session.run(names, feed), strict=True))
        logits: numpy.ndarray = outputs.pop("logits")[0]
        self._past = {
            name.replace("present.", "past_key_values."): value for name, value in outputs.items()
        }
        return logits

    def wait(self) -> None:
        """Return when all that was begun is computed: always, here."""

    def logits(self, ids: Sequence[int]) -> numpy.ndarray:
        """Return the logits of a sequence from its beginning, float32 [len(ids), vocabulary]."""
        self.clear()
        return self.decode(ids)
