"""One clear line for everything that ends a program, and a non-zero exit."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

BAD_INPUT = 2  # exit status: the input is wrong, and the line says what to change
FAILED = 1  # exit status: the system or a library failed
# What libraries say where the system's error did not reach them as an OSError.
DISK_FULL = ("no space left on device", "os error 28", "disk quota exceeded", "disk full")
MEMORY: tuple[str, ...] = ("out of memory", "can't allocate memory", "cannot allocate memory", "not enough memory")
MEMORY += ("malloc of size", "bad_alloc", "unable to allocate")
LONGEST = 400  # characters of a library's message in the line


class InputError(Exception):
    """Bad input. The message is one line: what was found, where, and what was expected."""


def run(main: Callable[[], None]) -> None:
    """Run a script's `main`; whatever ends it is one line on stderr and an exit status.

    An `InputError` is exit status 2. Any other exception is exit status 1, and the traceback goes
    to the job's log, whose path the line names. No secret is in either.
    """
    try:
        main()
    except InputError as error:
        _say(_folded(str(error)))
        sys.exit(BAD_INPUT)
    except BrokenPipeError:
        # The reader of our output is gone; what is left to flush must not fail again at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(FAILED)
    except Exception as error:
        place = _write_traceback(error)
        _say(f"{describe_failure(error)}{f' (traceback: {place})' if place else ''}")
        sys.exit(FAILED)


def describe_failure(error: BaseException) -> str:
    """Return one line for an exception of the system or of a library: what failed, and the remedy.

    The exception's causes are looked at too: libraries wrap the system's errors in their own.
    """
    chain = list(_chain(error))
    for cause in chain:
        text = str(cause).lower()
        full = isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT)
        if full or any(words in text for words in DISK_FULL):
            return f"no space left on the disk{_full_disks(cause)}; make room and start again"
        if isinstance(cause, MemoryError) or any(words in text for words in MEMORY):
            return f"out of memory ({_named(cause)}); give the job more memory, or less to do"
    for cause in chain:
        if isinstance(cause, PermissionError) or (isinstance(cause, OSError) and cause.errno == errno.EROFS):
            reason = "read-only file system" if cause.errno == errno.EROFS else "not allowed"
            return f"{_file(cause)}cannot be read or written ({reason}); change its permissions"
    if isinstance(error, OSError) and error.strerror:
        return f"{_file(error)}{error.strerror}"
    if isinstance(error, subprocess.CalledProcessError):
        program = error.cmd if isinstance(error.cmd, str) else " ".join(map(str, error.cmd[:3]))
        return f"'{program}' failed with status {error.returncode}; its own words stand above"
    return _named(error)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception and those that it came from."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _named(error: BaseException) -> str:
    """Return an exception's type and the beginning of its message."""
    text = _folded(str(error))
    text = text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _folded(text: str) -> str:
    return " ".join(text.split())


def _file(error: OSError) -> str:
    return f"{os.fsdecode(error.filename)}: " if error.filename is not None else ""


def _full_disks(error: BaseException) -> str:
    """Return which disk is full: that of the file in the error, else those that the job uses."""
    if isinstance(error, OSError) and error.filename is not None:
        candidates = [Path(os.fsdecode(error.filename))]
    else:
        candidates = [Path(a) for a in sys.argv[1:] if "/" in a and len(a) < 4096]
        candidates += [Path.cwd(), Path(tempfile.gettempdir())]
    told: dict[int, str] = {}
    for candidate in candidates:
        folder = _existing(candidate)
        free = shutil.disk_usage(folder).free / 1e6
        if free < 50 or isinstance(error, OSError) and error.filename is not None:
            told.setdefault(folder.stat().st_dev, f"{folder} ({free:.0f} MB free)")
    return f" of {' and '.join(told.values())}" if told else ""


def _existing(path: Path) -> Path:
    """Return the nearest folder of a path that is there."""
    path = path.absolute()
    try:
        while not path.is_dir():
            path = path.parent
    except OSError:
        return Path("/")
    return path


def _write_traceback(error: BaseException) -> str:
    """Write the traceback to the job's log and return where that is.

    In a job stderr is the log file. On a terminal the traceback goes to a file of its own. Where
    no file can be written, the traceback goes to stderr and the path is empty.
    """
    text = _mask("".join(traceback.format_exception(error)))
    log = _log_of(sys.stderr)
    if log:
        print(text, file=sys.stderr, flush=True)
        return log
    try:
        script = Path(sys.argv[0]).stem or "program"
        file, name = tempfile.mkstemp(prefix=f"{script}-", suffix=".traceback.txt", text=True)
        with open(file, "w", encoding="utf-8") as opened:
            opened.write(text)
    except OSError:
        print(text, file=sys.stderr, flush=True)
        return ""
    return name


def _log_of(stream: TextIO) -> str:
    """Return the path of the file that a stream writes to; nothing for a terminal or a pipe."""
    try:
        if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            return ""
        path = os.readlink(f"/proc/self/fd/{stream.fileno()}")
    except (OSError, ValueError):
        return ""
    here = os.getcwd()
    return os.path.relpath(path, here) if path.startswith(f"{here}/") else path


def _say(text: str) -> None:
    print(_mask(f"error: {text}"), file=sys.stderr, flush=True)


def _mask(text: str) -> str:
    from zagreus.secrets import mask  # here: zagreus.secrets imports InputError from this module

    return mask(text)
