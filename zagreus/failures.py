"""What ended a program, in one line with the remedy where the kind is known.

The traceback in its log.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from zagreus.credentials import mask
from zagreus.errors import SYSTEM, UNFORESEEN

ROOT = Path(__file__).resolve().parent.parent
LONGEST = 400  # characters of an exception's own text
PASSING = ("errors.py", "atomic.py")  # code that every error passes through
NOTHING_FREE = 200_000  # bytes: a disk with less is full
NEARLY_FULL = 50_000_000  # bytes: what failed may have been removed again
# What libraries say that pass the system's errors on as text.
NUMBER = re.compile(r"(?:os error|errno) (\d+)", re.IGNORECASE)
NO_ROOM = re.compile(r"no space left|disk quota exceeded", re.IGNORECASE)
# numpy's and torch's words for a write that fell short, whatever the reason.
SHORT_WRITE = re.compile(
    r"requested and \d+ written|failed writing file|unexpected pos \d+ vs \d+", re.IGNORECASE
)
NO_MEMORY = re.compile(
    r"can't allocate memory|cannot allocate memory|out of memory|unable to "
    r"allocate|bad_alloc|malloc of size|alloc_cpu",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Place:
    """What was being written when an error came, and the room on its disk at that moment."""

    path: Path
    free: int | None  # bytes


def mark(error: BaseException, path: Path) -> None:
    """Note on an error what was being written; the first note, nearest to the error, stays."""
    if not hasattr(error, "zagreus_place"):
        with suppress(AttributeError):  # a class with slots
            error.zagreus_place = Place(path, _free(path))  # type: ignore[attr-defined]


def report(error: Exception, speaker: str) -> tuple[str, int]:
    """Write an error's traceback to the log; return the one line and the exit status."""
    text, status = explain(error)
    whole = "".join(traceback.format_exception(error))
    return f"{speaker}error: {_program()}: {text}; traceback: {_keep(mask(whole))}", status


def explain(error: BaseException) -> tuple[str, int]:
    """Return what an error says, in one line, and the exit status that stands for its kind."""
    chain = list(_chain(error))
    location = next(
        (candidate for cause in chain if (candidate := getattr(cause, "zagreus_place", None))), None
    )
    for cause in chain:
        if text := _known(cause, location):
            return text, SYSTEM
    if location and location.free is not None and location.free < NOTHING_FREE:
        return f"{_no_room(location)} ({_named(error)})", SYSTEM
    return f"{_named(error)}{_where(error)}", UNFORESEEN


def one_line(error: BaseException) -> str:
    """Return an error's text in one line."""
    return " ".join(str(error).split())


def say(line: str) -> None:
    """Print the last line of a program, masked.

    What cannot be printed any more must not become a second error.
    """
    with suppress(OSError, ValueError):
        print(mask(line), file=sys.stderr, flush=True)
    # What is left in a buffer would fail again when Python ends, with lines of its own.
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            with suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what it came from, the error itself first."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or (
            None if current.__suppress_context__ else current.__context__
        )


def _known(error: BaseException, location: Place | None) -> str | None:
    """Return the line for an error of the system, None for another one."""
    text = one_line(error)
    if isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and NO_MEMORY.search(text)
    ):
        return (
            f"out of memory ({_shown(text) or type(error).__name__}); give the job more "
            "memory, or make the batch or the model smaller"
        )
    if not isinstance(error, Exception):
        return None
    said = NUMBER.search(text)
    number = (
        error.errno
        if isinstance(error, OSError) and error.errno
        else int(said[1])
        if said
        else None
    )
    name = getattr(error, "filename", None)
    path = name if isinstance(name, str | os.PathLike) else location.path if location else None
    what = f"{_shown_path(path)}: " if path else ""
    if number == errno.EDQUOT:
        return (
            f"the disk quota is used up: {_shown_path(path) if path else 'no file named'}; "
            "make room, then start again"
        )
    if number == errno.ENOSPC or (number is None and NO_ROOM.search(text)):
        full = location or (Place(Path(path), _free(Path(path))) if path else _fullest())
        return (
            _no_room(full)
            if full
            else f"no space left on a disk ({_shown(text)}); make room, then start again"
        )
    if number is None and SHORT_WRITE.search(text) and (full := _fullest()):
        return _no_room(full)
    if number == errno.ENOMEM:
        return f"out of memory ({_shown(text)}); give the job more memory"
    if number in (errno.EACCES, errno.EPERM):
        return f"{what}permission denied; look at its owner and mode, or name another folder"
    if number == errno.EROFS:
        return f"{what}the file system is read-only; name a folder that can be written"
    if number in (errno.EMFILE, errno.ENFILE):
        return f"{what}too many open files; raise the limit (ulimit -n)"
    if number == errno.EFBIG:
        return f"{what}the file is larger than the limit (ulimit -f) or the file system allows"
    if number in (errno.EIO, errno.ESTALE):
        return (
            f"{what}the disk or the network file system failed ({os.strerror(number)}); "
            "start again once it is back"
        )
    if isinstance(error, OSError) and number is not None and path:
        return f"{what}{os.strerror(number).lower()}{_where(error)}"
    return None


def _no_room(location: Place) -> str:
    free = location.free if location.free is not None else _free(location.path)
    room = f" ({free / 1e6:.1f} MB free)" if free is not None else ""
    return (
        f"no space left on the disk of {_shown_path(_folder(location.path))}{room}; make room, "
        "then start again"
    )


def _fullest() -> Place | None:
    """Return which disk is full of those that the program's arguments name, the working folder's
    and the temporary one.
    """
    words = [word.partition("=")[2] or word for word in sys.argv[1:]]
    paths = [Path(word) for word in words if "/" in word and len(word) < 500 and "{" not in word]
    places = [
        Place(path, _free(path)) for path in (*paths, Path.cwd(), Path(tempfile.gettempdir()))
    ]
    fullest = min(
        places, key=lambda location: location.free if location.free is not None else sys.maxsize
    )
    return fullest if fullest.free is not None and fullest.free < NEARLY_FULL else None


def _folder(path: Path) -> Path:
    """Return the folder that a file lies in, or the nearest one that is there."""
    folder = path.parent if not path.is_dir() or path.name.endswith(".partial") else path
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder


def _free(path: Path) -> int | None:
    try:
        return shutil.disk_usage(_folder(path)).free
    except OSError:
        return None


def _named(error: BaseException) -> str:
    text = _shown(one_line(error))
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _shown(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."


def _shown_path(path: str | os.PathLike[str]) -> str:
    shown = str(path)
    with suppress(ValueError, OSError):
        shown = str(Path(path).absolute().relative_to(Path.cwd()))
    name = Path(shown).name
    if name.startswith(".") and name.endswith(
        ".partial"
    ):  # the file that was meant, not its temporary name
        shown = str(Path(shown).with_name(name[1:].removesuffix(".partial")))
    return " ".join(shown.split())


def _where(error: BaseException) -> str:
    """Return the place in this repository's code that an error passed through last."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        if path.is_absolute() and path.is_relative_to(ROOT):
            path = path.relative_to(ROOT)
        if (
            not path.is_absolute()
            and path.parts[0] in ("zagreus", "scripts", "bin")
            and path.name not in PASSING
        ):
            return f" ({path}, line {frame.lineno})"
    return ""


def _program() -> str:
    return Path(sys.argv[0]).stem or "python"


def _keep(text: str) -> str:
    """Write a traceback to the log, and return the log's path.

    The file that stderr goes to, else one of its own.
    """
    try:
        if stat.S_ISREG(os.fstat(sys.stderr.fileno()).st_mode):
            print(text, file=sys.stderr, end="", flush=True)
            return _shown_path(os.readlink(f"/proc/self/fd/{sys.stderr.fileno()}"))
    except (OSError, ValueError):
        pass  # a stream that is no file, a log on the disk that is full
    try:
        folder = Path(tempfile.gettempdir()) / f"zagreus-{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        descriptor, path = tempfile.mkstemp(".log", f"{_program()}-", folder)
        with open(descriptor, "w", encoding="utf-8", errors="backslashreplace") as log:
            log.write(text)
        return path
    except OSError as error:
        return f"none, it could not be written ({error.strerror})"
