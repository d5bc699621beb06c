"""Row groups of a parquet file encoded in order: by this process, or on several cores by worker processes.

Processes, as the fast engine takes lists of str: threads that make them wait for one another's turn in the interpreter (two of them were
1.55 times one). Workers are forked once the engine is loaded, so that its tables are there once. Each takes the number of the next row group
from a pipe that all share, and sends what it made of it through one of its own; what comes early waits here, up to a limit. There is
nothing that a dead process could keep locked: a worker whose parent is gone finds the pipes closed and ends.
"""

from __future__ import annotations

import fcntl
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

# Tokens that are sent at once: those of a batch of most text.
PIECE_TOKENS = 2**18
# The most that Linux gives a pipe without a privilege (pipe-max-size in proc(5)): a worker need not wait for every 64 KiB.
PIPE_BYTES = 2**20
# What is kept of row groups whose turn has not come, for each worker: the tokens of some 20 MB of text.
HELD_BYTES = 24 * 2**20
# Numbers of row groups in the shared pipe ahead of the one that is written, for each worker.
TICKETS_AHEAD = 4

# What a worker sends: kind, row group, bytes of text, bytes of document ends, bytes of tokens; then the ends and the tokens.
HEADER = struct.Struct("<5Q")
TICKET = struct.Struct("<Q")
TAKEN, PIECE, FINISHED, REFUSED = range(4)


class Piece(NamedTuple):
    """Tokens as they stand in the shard, where documents end among them (counted from the piece's first token), bytes of text."""

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

    def encode_group(self, parquet: pq.ParquetFile, group: int) -> Iterator[Piece]:
        """Yield the tokens of a row group; raise `InputError` where it is damaged or has a document that is too long."""
        for batch in read_group(parquet, self.path, group, self.memory, self.longest):
            with naming(self.path, group):
                texts = batch.texts.to_pylist()
            ids, ends = self.encoder.encode(texts)
            if len(ends) != len(texts):
                raise InputError(f"{self.path}: {len(texts)} documents of row group {group} went in, {len(ends)} came out as tokens")
            yield from cut(ids, ends, batch.bytes, self.token_bytes)


def cut(ids: Ids, ends: Ends, text_bytes: int, token_bytes: int) -> Iterator[Piece]:
    """Yield the tokens of a batch in pieces of bounded size, one at least; the first counts the text."""
    tokens = ids.astype(f"<u{token_bytes}", copy=False)
    ended = 0
    for start in range(0, max(1, len(tokens)), PIECE_TOKENS):
        stop = min(start + PIECE_TOKENS, len(tokens))
        until = int(np.searchsorted(ends, stop, side="right"))
        yield Piece(tokens[start:stop].view(np.uint8).data, ends[ended:until] - np.uint64(start), 0 if start else text_bytes)
        ended = until


@contextmanager
def encoding(text: Text, parquet: pq.ParquetFile, processes: int) -> Iterator[Iterator[Piece]]:
    """Give the tokens of all row groups in order, the same pieces whatever the number of processes; workers are there inside the block.

    Args:
        text: the file and the engine.
        parquet: the open file.
        processes: how many encode; one is this process itself.

    Raises:
        InputError: while the pieces are read: a row group that is damaged, a document that is too long, a worker that was killed.
    """
    groups = parquet.num_row_groups
    if min(processes, groups) < 2:
        yield (piece for group in range(groups) for piece in text.encode_group(parquet, group))
        return
    crew = _Crew(text, min(processes, groups))
    try:
        yield crew.encode(groups)
    finally:
        crew.end()


class _Crew:
    """The workers, as their parent sees them."""

    def __init__(self, text: Text, processes: int) -> None:
        self._text = text
        self._tickets_out, self._tickets = os.pipe()
        self._workers: dict[int, Any] = {}  # by the pipe that it sends through
        self._busy: dict[int, int | None] = {}  # the row group that each is known to be at
        self._held: dict[int, deque[Piece | str]] = defaultdict(deque)  # pieces by row group; a str is why it was refused
        self._held_bytes, self._finished = 0, set[int]()
        fork = get_context("fork")
        for _ in range(processes):
            receive, send = os.pipe()
            with suppress(OSError):  # where the user's pipes take too much already, this one stays smaller
                fcntl.fcntl(send, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
            mine = [self._tickets, receive, *self._workers]
            worker = fork.Process(target=_work, args=(text, self._tickets_out, send, mine), daemon=True)
            worker.start()
            os.close(send)
            self._workers[receive], self._busy[receive] = worker, None
        os.close(self._tickets_out)

    def encode(self, groups: int) -> Iterator[Piece]:
        """Yield the pieces of all row groups in order."""
        given, ahead = 0, TICKETS_AHEAD * len(self._workers)
        for group in range(groups):
            while given < min(groups, group + ahead):
                os.write(self._tickets, TICKET.pack(given))
                given += 1
            while group not in self._finished or self._held[group]:
                if not self._held[group]:
                    self._receive(group)
                    continue
                piece = self._held[group].popleft()
                if isinstance(piece, str):
                    raise InputError(piece)
                self._held_bytes -= len(piece.tokens)
                yield piece
            self._finished.discard(group)
            del self._held[group]

    def _receive(self, group: int) -> None:
        """Wait for workers, and take in what they send: that of `group` always, that of later ones up to the limit.

        Row groups are taken in order, so that the one in turn is at a worker that is known to be at it, or at nothing.
        """
        room = self._held_bytes < HELD_BYTES * len(self._workers)
        for pipe in wait([pipe for pipe, at in self._busy.items() if room or at in (None, group)]):
            assert isinstance(pipe, int)
            try:
                kind, at, text_bytes, ends_bytes, tokens_bytes = HEADER.unpack(_read(pipe, HEADER.size))
                ends, tokens = _read(pipe, ends_bytes), _read(pipe, tokens_bytes)
            except EOFError:
                self._fail(pipe)
            self._busy[pipe] = None if kind == FINISHED else at
            if kind == PIECE:
                self._held[at].append(Piece(tokens, np.frombuffer(ends, np.uint64), text_bytes))
                self._held_bytes += tokens_bytes
            elif kind == REFUSED:
                self._held[at].append(bytes(tokens).decode())
            elif kind == FINISHED:
                self._finished.add(at)

    def _fail(self, pipe: int) -> NoReturn:
        """Say how a worker ended that had no reason to: all of them work, or wait, until `end`."""
        worker, at = self._workers[pipe], self._busy[pipe]
        worker.join()
        how = f"killed by signal {-worker.exitcode}" if worker.exitcode < 0 else f"ended with status {worker.exitcode}"
        where = "" if at is None else f" in row group {at}"
        hint = "; out of memory?" if worker.exitcode == -signal.SIGKILL else ""
        raise InputError(f"{self._text.path}: a worker process was {how}{where}{hint}")

    def end(self) -> None:
        """End all workers, whatever they are at, and wait for them."""
        for worker in self._workers.values():
            worker.kill()
        for pipe, worker in self._workers.items():
            worker.join()
            os.close(pipe)
        os.close(self._tickets)


def _work(text: Text, tickets: int, send: int, others: list[int]) -> None:
    """Encode row groups until there are no more: all of a worker's life. `others` are its parent's ends of the pipes."""
    # Ctrl-C is for the parent to answer.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    for pipe in others:
        os.close(pipe)
    with suppress(BrokenPipeError), open(send, "wb", buffering=0) as pipe, open_parquet(text.path, text.documents) as parquet:
        while ticket := os.read(tickets, TICKET.size):
            (group,) = TICKET.unpack(ticket)
            pipe.write(HEADER.pack(TAKEN, group, 0, 0, 0))
            try:
                for piece in text.encode_group(parquet, group):
                    pipe.write(HEADER.pack(PIECE, group, piece.text_bytes, piece.ends.nbytes, len(piece.tokens)))
                    pipe.write(piece.ends.tobytes())
                    pipe.write(piece.tokens)
                pipe.write(HEADER.pack(FINISHED, group, 0, 0, 0))
            except InputError as error:
                pipe.write(HEADER.pack(REFUSED, group, 0, 0, len(str(error).encode())))
                pipe.write(str(error).encode())


def _read(pipe: int, size: int) -> memoryview:
    """Return so many bytes of a pipe; raise `EOFError` where it ends before."""
    buffer = np.empty(size, np.uint8).data
    at = 0
    while at < size:
        count = os.readv(pipe, [buffer[at:]])
        if count == 0:
            raise EOFError
        at += count
    return buffer
