"""llama.cpp, through the C interface of the library that the package xllamacpp holds.

The package's own classes give the server; single logits need the C interface (`llama.h` and
`ggml.h` of llama.cpp). Of its structures only the first fields are named here; `_check_layout`
compares these with their documented defaults before any of them is set.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy

from zagreus.errors import InputError
from zagreus.export.machine import check_instructions, check_memory

LOG_ERROR = 4  # enum ggml_log_level
# Defaults of llama_context_params: n_ctx, n_batch, n_ubatch, n_seq_max, n_rs_seq, n_outputs_max,
# n_outputs_max_per_seq, n_threads, n_threads_batch.
CONTEXT_DEFAULTS = (512, 2048, 512, 1, 0, 0, 1, 4, 4)
N_CTX, N_BATCH, N_UBATCH, N_SEQ_MAX, N_THREADS, N_THREADS_BATCH = 0, 1, 2, 3, 7, 8


class Token(NamedTuple):
    """A token of one of the sequences that a runtime keeps apart.

    Attributes:
        id: of the vocabulary.
        position: in its sequence.
        sequence: 0 to `sequences` - 1.
        output: whether the logits after this token are kept.
    """

    id: int
    position: int
    sequence: int
    output: bool


class _Parameters(ctypes.Structure):
    """A structure of parameters whose first fields are known; larger than any of llama.cpp's."""

    _fields_ = [("head", ctypes.c_int32 * 9), ("rest", ctypes.c_int32 * 119)]


class _Batch(ctypes.Structure):
    """`llama_batch`."""

    _fields_ = [
        ("n_tokens", ctypes.c_int32),
        ("token", ctypes.POINTER(ctypes.c_int32)),
        ("embd", ctypes.POINTER(ctypes.c_float)),
        ("pos", ctypes.POINTER(ctypes.c_int32)),
        ("n_seq_id", ctypes.POINTER(ctypes.c_int32)),
        ("seq_id", ctypes.POINTER(ctypes.POINTER(ctypes.c_int32))),
        ("logits", ctypes.POINTER(ctypes.c_int8)),
    ]


_LOG = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
_complaints: list[str] = []


@_LOG
def _keep_errors(level: int, text: bytes | None, _: Any) -> None:
    if level == LOG_ERROR and text:
        _complaints.append(text.decode("utf-8", errors="replace").strip())


@cache
def library() -> ctypes.CDLL:
    """Return llama.cpp's library, which writes nothing to the terminal.

    Raises:
        InputError: the processor lacks instructions that the library was built with, or the library
            has another layout than this module knows.
    """
    check_instructions()
    spec = importlib.util.find_spec("xllamacpp.xllamacpp")
    if spec is None or spec.origin is None:
        raise InputError("package xllamacpp: not installed, expected in the image `export`")
    lib = ctypes.CDLL(spec.origin)
    pointer, integer, text = ctypes.c_void_p, ctypes.c_int32, ctypes.c_char_p
    returns: dict[str, Any] = {
        "llama_model_default_params": _Parameters,
        "llama_context_default_params": _Parameters,
        "llama_model_load_from_file": pointer,
        "llama_init_from_model": pointer,
        "llama_model_get_vocab": pointer,
        "llama_get_memory": pointer,
        "llama_get_logits_ith": ctypes.POINTER(ctypes.c_float),
        "llama_batch_init": _Batch,
        "llama_model_chat_template": text,
        "llama_model_size": ctypes.c_uint64,
        "llama_model_n_params": ctypes.c_uint64,
        "llama_vocab_is_eog": ctypes.c_bool,
        "llama_memory_seq_rm": ctypes.c_bool,
        "ggml_quantize_chunk": ctypes.c_size_t,
    }
    for name, kind in returns.items():
        getattr(lib, name).restype = kind
    lib.llama_model_load_from_file.argtypes = [text, _Parameters]
    lib.llama_init_from_model.argtypes = [pointer, _Parameters]
    lib.llama_decode.argtypes = [pointer, _Batch]
    lib.llama_batch_init.argtypes = [integer, integer, integer]
    lib.llama_batch_free.argtypes = [_Batch]
    lib.llama_memory_clear.argtypes = [pointer, ctypes.c_bool]
    lib.llama_memory_seq_rm.argtypes = [pointer, integer, integer, integer]
    lib.llama_get_logits_ith.argtypes = [pointer, integer]
    lib.llama_set_n_threads.argtypes = [pointer, integer, integer]
    lib.llama_vocab_is_eog.argtypes = [pointer, integer]
    lib.llama_tokenize.argtypes = [
        pointer,
        text,
        integer,
        ctypes.POINTER(integer),
        integer,
        ctypes.c_bool,
        ctypes.c_bool,
    ]
    for name in ("llama_model_get_vocab", "llama_get_memory", "llama_free", "llama_model_free"):
        getattr(lib, name).argtypes = [pointer]
    for name in ("llama_vocab_n_tokens", "llama_vocab_bos", "llama_vocab_eos", "llama_synchronize"):
        getattr(lib, name).argtypes = [pointer]
    for name in ("llama_model_size", "llama_model_n_params", "llama_model_n_ctx_train"):
        getattr(lib, name).argtypes = [pointer]
    lib.llama_model_chat_template.argtypes = [pointer, text]
    lib.llama_log_set.argtypes = [_LOG, pointer]
    lib.llama_log_set(_keep_errors, None)
    _check_layout(lib)
    lib.llama_backend_init()
    return lib


def _check_layout(lib: ctypes.CDLL) -> None:
    defaults = tuple(lib.llama_context_default_params().head)
    if defaults != CONTEXT_DEFAULTS:
        raise InputError(
            f"package xllamacpp: llama_context_params begins with {defaults}, expected "
            f"{CONTEXT_DEFAULTS}: a version with another layout"
        )


class Runtime:
    """A GGUF file in llama.cpp, on the CPU. Use it as a context manager."""

    def __init__(self, path: Path, context: int, threads: int = 1, sequences: int = 1) -> None:
        """Load a file.

        Args:
            path: the GGUF file.
            context: the longest sequence, in tokens.
            threads: of computation.
            sequences: texts that are computed together.

        Raises:
            InputError: the file cannot be read by llama.cpp, or memory does not suffice.
        """
        if not path.is_file():
            raise InputError(f"{path}: no such file, expected a GGUF file")
        self.lib, self.path = library(), path
        check_memory(path, context * sequences)
        _complaints.clear()
        self.context_size, self.sequences = context, sequences
        self._context: int | None = None
        self._model = self.lib.llama_model_load_from_file(
            os.fsencode(path), self.lib.llama_model_default_params()
        )
        if not self._model:
            raise InputError(f"{path}: llama.cpp cannot load this file ({_reason()})")
        parameters = self.lib.llama_context_default_params()
        parameters.head[N_CTX] = parameters.head[N_BATCH] = context * sequences
        parameters.head[N_SEQ_MAX] = sequences
        parameters.head[N_UBATCH] = min(context, 512)
        parameters.head[N_THREADS] = parameters.head[N_THREADS_BATCH] = threads
        self._context = self.lib.llama_init_from_model(self._model, parameters)
        if not self._context:
            raise InputError(f"{path}: llama.cpp cannot make a context ({_reason()})")
        self._vocabulary = self.lib.llama_model_get_vocab(self._model)
        self.vocab_size = int(self.lib.llama_vocab_n_tokens(self._vocabulary))
        self._batch = self.lib.llama_batch_init(context * sequences, 0, 1)

    def __enter__(self) -> Runtime:
        return self

    def __exit__(self, *_: object) -> None:
        self.lib.llama_batch_free(self._batch)
        self.lib.llama_free(self._context)
        self.lib.llama_model_free(self._model)

    @property
    def eos_id(self) -> int:
        """The id of the token that ends a text; -1 where the file names none."""
        return int(self.lib.llama_vocab_eos(self._vocabulary))

    @property
    def bos_id(self) -> int:
        """The id of the token that begins a text; -1 where the file names none."""
        return int(self.lib.llama_vocab_bos(self._vocabulary))

    @property
    def chat_template(self) -> str | None:
        """The chat template of the file; None where the file has none."""
        template = self.lib.llama_model_chat_template(self._model, None)
        return None if template is None else template.decode("utf-8")

    def ends(self, token: int) -> bool:
        """Tell whether generation stops at a token."""
        return bool(self.lib.llama_vocab_is_eog(self._vocabulary, token))

    def set_threads(self, threads: int) -> None:
        """Set the number of threads of all that is computed from now on."""
        self.lib.llama_set_n_threads(self._context, threads, threads)

    def tokenize(self, text: str) -> list[int]:
        """Return a text's token ids, with the tokens that the file puts around a text."""
        encoded = text.encode("utf-8")
        room = len(encoded) + 8
        ids = (ctypes.c_int32 * room)()
        count = self.lib.llama_tokenize(
            self._vocabulary, encoded, len(encoded), ids, room, True, True
        )
        if count < 0:
            raise InputError(f"{self.path}: llama.cpp gives {-count} tokens for {room - 8} bytes")
        return list(ids[:count])

    def clear(self) -> None:
        """Forget what was decoded."""
        self.lib.llama_memory_clear(self.lib.llama_get_memory(self._context), True)

    def decode(self, ids: Sequence[int], start: int = 0, outputs: bool = False) -> None:
        """Run the model on tokens at the positions `start`...

        Args:
            ids: the tokens.
            start: position of the first one.
            outputs: whether logits of all positions are kept; else only the last one's are.
        """
        if start + len(ids) > self.context_size:
            raise ValueError(f"{start + len(ids)} tokens in a context of {self.context_size}")
        last = len(ids) - 1
        self.decode_tokens(
            [
                Token(token, start + index, 0, outputs or index == last)
                for index, token in enumerate(ids)
            ]
        )

    def decode_tokens(self, tokens: Sequence[Token]) -> None:
        """Run the model on tokens of several sequences, at most `context * sequences` of them.

        Raises:
            InputError: llama.cpp refuses them.
        """
        batch = self._batch
        for index, token in enumerate(tokens):
            batch.token[index] = token.id
            batch.pos[index] = token.position
            batch.n_seq_id[index] = 1
            batch.seq_id[index][0] = token.sequence
            batch.logits[index] = int(token.output)
        batch.n_tokens = len(tokens)
        status = self.lib.llama_decode(self._context, batch)
        if status:
            raise InputError(f"{self.path}: llama.cpp's decode ended with {status} ({_reason()})")

    def forget(self, sequence: int) -> None:
        """Forget what was decoded of one sequence."""
        self.lib.llama_memory_seq_rm(self.lib.llama_get_memory(self._context), sequence, -1, -1)

    def likeliest(self, index: int) -> int:
        """Return the likeliest token after the token `index` of the last call."""
        row = self.lib.llama_get_logits_ith(self._context, index)
        return int(numpy.ctypeslib.as_array(row, (self.vocab_size,)).argmax())

    def wait(self) -> None:
        """Return when all that was begun is computed."""
        self.lib.llama_synchronize(self._context)

    def logits(self, ids: Sequence[int]) -> numpy.ndarray:
        """Return the logits of a sequence from its beginning, float32 [len(ids), vocabulary]."""
        self.clear()
        self.decode(ids, outputs=True)
        rows = numpy.empty((len(ids), self.vocab_size), dtype=numpy.float32)
        for index in range(len(ids)):
            row = self.lib.llama_get_logits_ith(self._context, index)
            rows[index] = numpy.ctypeslib.as_array(row, (self.vocab_size,))
        return rows


def _reason() -> str:
    return " ".join(_complaints[-2:])[:200] or "no reason given"
