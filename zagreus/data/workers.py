"""Row groups of a parquet file encoded in order.

By this process, or on several cores by worker processes.

Processes, as the fast engine takes lists of str: threads that make them wait for one another's turn
in the interpreter (two of them were 1.55 times one). Workers are forked once the engine is loaded,
so that its tables are there once. Each takes the number of the next row group from a pipe that all
share, puts the tokens into a buffer of memory that it shares with its parent, and says so through a
pipe of its own. What comes early waits in the buffer. There is nothing that a dead process could
keep locked: a worker whose parent is gone finds its pipes closed and ends.
"""

from __future__ import annotations

import mmap
import os
import signal
import struct
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np
import pyarrow.parquet as pq

from zagreus.data.batches import naming, open_parquet, read_group
from zagreus.data.encode import Encoder, Ends, Ids
from zagreus.errors import InputError

# Tokens that are handed over at once: those of a batch of most text.
PIECE_TOKENS = 2**18
# A worker's buffer: the tokens of some 25 MB of text.
RING_BYTES = 24 * 2**20
# Chunks in a buffer at most, so that the pipe that says how many were read never fills.
RING_PIECES = 4096
# Numbers of row groups in the shared pipe ahead of the one that is written, for each worker.
TICKETS_AHEAD = 4

# What a worker says: kind, row group, bytes of text, place in the buffer, bytes of tokens, bytes of
# what follows: the ends of documents, or a line.
HEADER = struct.Struct("<6Q")
QUEUED = struct.Struct("<Q")
TAKEN, PIECE, FINISHED, REFUSED = range(4)


class Chunk(NamedTuple):
    """Tokens as they stand in the shard, where documents end among them (counted from the chunk's
    first token), bytes of text.
    """

    tokens: Any  # a buffer of bytes
    ends: Ends
    text_bytes: int


@dataclass
class Text:
    """A parquet file to encode, and with what.

    Attributes:
        path: the file.
        documents: its rows.
        encoder: the engine.
        token_bytes: bytes of a token, 2 or 4.
        memory: bytes that what one process reads of it at once may take.
        longest: bytes that one document may have.
    """

    path: Path
    documents: int
    encoder: Encoder
    token_bytes: int
    memory: int
    longest: int

    def encode_group(self, parquet: pq.ParquetFile, group: int) -> Iterator[Chunk]:
        """Yield the tokens of a row group.

        Raise `InputError` where it is damaged or has a document that is too long.
        """
        for batch in read_group(parquet, self.path, group, self.memory, self.longest):
            with naming(self.path, group):
                texts = batch.texts.to_pylist()
            ids, ends = self.encoder.encode(texts)
            if len(ends) != len(texts):
                raise InputError(
                    f"{self.path}: {len(texts)} documents of row group {group} went in, "
                    f"{len(ends)} came out as tokens"
                )
            yield from cut(ids, ends, batch.bytes, self.token_bytes)


def cut(ids: Ids, ends: Ends, text_bytes: int, token_bytes: int) -> Iterator[Chunk]:
    """Yield the tokens of a batch in chunks of bounded size, one at least.

    The first counts the text.
    """
    tokens = ids.astype(f"<u{token_bytes}", copy=False)
    ended = 0
    for start in range(0, max(1, len(tokens)), PIECE_TOKENS):
        stop = min(start + PIECE_TOKENS, len(tokens))
        until = int(np.searchsorted(ends, stop, side="right"))
        yield Chunk(
            tokens[start:stop].view(np.uint8).data,
            ends[ended:until] - np.uint64(start),
            0 if start else text_bytes,
        )
        ended = until


@contextmanager
def encoding(text: Text, parquet: pq.ParquetFile, processes: int) -> Iterator[Iterator[Chunk]]:
    """Give the tokens of all row groups in order, the same chunks whatever the number of processes.

    Workers are there inside the block.

    Args:
        text: the file and the engine.
        parquet: the open file.
        processes: how many encode; one is this process itself.

    Raises:
        InputError: while the chunks are read: a row group that is damaged, a document that is too
            long, a worker that was killed.
    """
    groups = parquet.num_row_groups
    if min(processes, groups) < 2:
        yield (chunk for group in range(groups) for chunk in text.encode_group(parquet, group))
        return
    pool = _Pool(text, min(processes, groups))
    try:
        yield pool.encode(groups)
    finally:
        pool.end()


class _Buffer:
    """Memory that a worker fills and its parent reads, chunk by chunk in order, and a pipe that
    says how many were read.
    """

    def __init__(self) -> None:
        self.memory = memoryview(mmap.mmap(-1, RING_BYTES))
        self._freed, self._free = os.pipe()
        self._at, self._used = 0, 0
        self._sizes: deque[int] = deque()  # of the chunks that are not known to be read

    def put(self, tokens: Any) -> int:
        """Copy tokens in, when there is room; return where they are.

        Raise `BrokenPipeError` where nobody reads any more.
        """
        size = len(tokens)
        skipped = (
            RING_BYTES - self._at if self._at + size > RING_BYTES else 0
        )  # a chunk is not cut at the end
        while self._used + skipped + size > RING_BYTES or len(self._sizes) == RING_PIECES:
            read = os.read(self._freed, RING_PIECES)
            if not read:
                raise BrokenPipeError
            for _ in read:
                self._used -= self._sizes.popleft()
        start = (self._at + skipped) % RING_BYTES
        self.memory[start : start + size] = tokens
        self._at, self._used = start + size, self._used + skipped + size
        self._sizes.append(skipped + size)
        return start

    def free(self) -> None:
        """Say that the oldest chunk was read."""
        with suppress(BrokenPipeError):  # of a worker that is dead, which shows where it speaks
            os.write(self._free, b"x")

    def close_parent(self) -> None:
        """Close the parent's end of the pipe."""
        os.close(self._free)

    def close_worker(self) -> None:
        """Close the worker's end of the pipe."""
        os.close(self._freed)


@dataclass
class _Worker:
    """A worker as its parent sees it. `at` is the row group that it is known to be at."""

    process: Any
    buffer: _Buffer
    at: int | None = None


class _Pool:
    """The workers, and what they made that was not asked for yet."""

    def __init__(self, text: Text, processes: int) -> None:
        self._text = text
        self._queue_out, self._tickets = os.pipe()
        self._workers: dict[int, _Worker] = {}  # by the pipe through which it speaks
        # Chunks by row group, each with the buffer that holds it; a str is why the row group was
        # refused.
        self._held: dict[int, deque[tuple[Chunk | str, _Buffer]]] = defaultdict(deque)
        self._finished: set[int] = set()
        fork = get_context("fork")
        for _ in range(processes):
            receive, send = os.pipe()
            buffer = _Buffer()
            worker = fork.Process(target=self._start, args=(buffer, receive, send), daemon=True)
            worker.start()
            os.close(send)
            buffer.close_worker()
            self._workers[receive] = _Worker(worker, buffer)
        os.close(self._queue_out)

    def encode(self, groups: int) -> Iterator[Chunk]:
        """Yield the chunks of all row groups in order.

        A chunk's tokens are there until the next one is asked for.
        """
        queued, ahead = 0, TICKETS_AHEAD * len(self._workers)
        for group in range(groups):
            while queued < min(groups, group + ahead):
                with suppress(
                    BrokenPipeError
                ):  # all workers are dead, which shows where they speak
                    os.write(self._tickets, QUEUED.pack(queued))
                queued += 1
            held = self._held[group]
            while held or group not in self._finished:
                if not held:
                    self._receive()
                    continue
                chunk, buffer = held.popleft()
                if isinstance(chunk, str):
                    raise InputError(chunk)
                yield chunk
                if len(chunk.tokens):
                    buffer.free()
            self._finished.discard(group)
            del self._held[group]

    def end(self) -> None:
        """End all workers, whatever they are at, and wait for them."""
        for worker in self._workers.values():
            worker.process.kill()
        for pipe, worker in self._workers.items():
            worker.process.join()
            os.close(pipe)
            worker.buffer.close_parent()
        os.close(self._tickets)

    def _receive(self) -> None:
        """Wait until workers say something, and take it in."""
        for pipe in wait(list(self._workers)):
            assert isinstance(pipe, int)
            worker = self._workers[pipe]
            try:
                kind, group, text_bytes, start, size, following = HEADER.unpack(
                    _read(pipe, HEADER.size)
                )
                more = _read(pipe, following)
            except EOFError:
                self._fail(worker)
            worker.at = None if kind == FINISHED else group
            if kind == PIECE:
                tokens = worker.buffer.memory[start : start + size]
                self._held[group].append(
                    (Chunk(tokens, np.frombuffer(more, np.uint64), text_bytes), worker.buffer)
                )
            elif kind == REFUSED:
                self._held[group].append((more.decode(), worker.buffer))
            elif kind == FINISHED:
                self._finished.add(group)

    def _fail(self, worker: _Worker) -> NoReturn:
        """Say how a worker ended, which none has a reason to: they work, or wait, until `end`."""
        worker.process.join()
        code = worker.process.exitcode
        how = f"killed by signal {-code}" if code < 0 else f"ended with status {code}"
        where = "" if worker.at is None else f" in row group {worker.at}"
        raise InputError(
            f"{self._text.path}: a worker process was "
            f"{how}{where}{'; out of memory?' if code == -signal.SIGKILL else ''}"
        )

    def _start(self, buffer: _Buffer, receive: int, send: int) -> None:
        """Encode row groups until the parent is gone: all of a worker's life."""
        # Ctrl-C is for the parent to answer.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        # What belongs to the parent: a pipe ends for a reader when nobody can write to it any more,
        # and the other way round.
        for pipe in (self._tickets, receive, *self._workers):
            os.close(pipe)
        for shared in (buffer, *(worker.buffer for worker in self._workers.values())):
            shared.close_parent()
        with (
            suppress(BrokenPipeError),
            open_parquet(self._text.path, self._text.documents) as parquet,
        ):
            while queued := os.read(self._queue_out, QUEUED.size):
                (group,) = QUEUED.unpack(queued)
                _say(send, TAKEN, group)
                try:
                    for chunk in self._text.encode_group(parquet, group):
                        start = buffer.put(chunk.tokens) if len(chunk.tokens) else 0
                        _say(
                            send,
                            PIECE,
                            group,
                            chunk.text_bytes,
                            start,
                            len(chunk.tokens),
                            chunk.ends.tobytes(),
                        )
                    _say(send, FINISHED, group)
                except InputError as error:
                    _say(send, REFUSED, group, following=str(error).encode())


def _say(
    pipe: int,
    kind: int,
    group: int,
    text_bytes: int = 0,
    start: int = 0,
    size: int = 0,
    following: bytes = b"",
) -> None:
    """Write a header and what follows it to a pipe."""
    message = memoryview(
        HEADER.pack(kind, group, text_bytes, start, size, len(following)) + following
    )
    while message:
        message = message[os.write(pipe, message) :]


def _read(pipe: int, size: int) -> bytes:
    """Return so many bytes of a pipe; raise `EOFError` where it ends before."""
    parts = []
    while size:
        parts.append(os.read(pipe, size))
        if not parts[-1]:
            raise EOFError
        size -= len(parts[-1])
    return b"".join(parts)
