"""JSON and JSON lines made elsewhere: one reader for conversations, evaluation items and more.

What is read and what is refused stands in docs/inputs.md. Standard library only; a file compressed
with zstd needs pyarrow, which every image has.
"""

from __future__ import annotations

import bz2
import gzip
import itertools
import json
import lzma
import math
import os
import re
import stat
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from zagreus.errors import InputError

HEAD_BYTES = 4096
MAX_DEPTH = 100  # lists and mappings inside one another; Python's own limit depends on the caller
BLANK = " \t\r\n"  # white space between JSON's values; other white space is part of the data
PARQUET = (b"PAR1", b"PARE")
# What other files begin with, and what they are.
FOREIGN = {
    b"PAR1": "a parquet file",
    b"PARE": "an encrypted parquet file",
    b"ARROW1": "an Arrow file",
    b"PK\x03\x04": "a zip archive",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"%PDF": "a PDF document",
    b"SQLite format 3": "an SQLite database",
    b"version https://git-lfs": "a Git LFS pointer, not the file that it stands for",
    b"\x89HDF": "an HDF5 file",
    b"Obj\x01": "an Avro file",
}
COMPRESSED = {
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
}
TAR = (b"ustar", 257)  # a tar archive's magic, and where it stands
EXPECTED = "expected one JSON object a line, or a JSON array of objects"
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


@dataclass(frozen=True, slots=True)
class Record:
    """One object of a file.

    Attributes:
        row: its line in the file, or its number in the array; both from 1.
        location: `line 3` or `element 3 (line 7)`, for messages.
        value: the object.
    """

    row: int
    location: str
    value: dict[str, Any]


class RowError(InputError):
    """One row cannot be used; the rows after it can be read. `reason` is the kind of the fault."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class _Fault(Exception):
    """A fault of one value, as (reason, what was found); the place is not known yet."""


def read_records(
    path: Path,
    name: str | None = None,
    *,
    lose: Callable[[RowError], None] | None = None,
    empty: bool = False,
) -> Iterator[Record]:
    """Yield the objects of a file of JSON lines, of a JSON array, or of one JSON object.

    The file may be compressed (gzip, zstd, bzip2, xz), whatever its suffix, and in UTF-8, UTF-16
    or UTF-32, with or without a byte order mark. Only a line feed ends a line; blank lines are
    passed over. Lines are read one by one, an array is held in memory as text.

    Args:
        path: the file.
        name: its name in messages; the path, when it is not given.
        lose: called with the error of each row that cannot be used (no object, a lone surrogate, a
            key twice, a number that Python does not hold, NaN), and the next row is read; without
            it, the error is raised.
        empty: whether a file without a row is allowed.

    Raises:
        InputError: no such file, another format, damaged or cut off; `RowError` for a single row.
    """
    name = name or str(path)
    with open_plain(path, name) as opened:
        yield from records_of(opened, name, lose=lose, empty=empty)


def records_of(
    opened: BinaryIO,
    name: str,
    *,
    lose: Callable[[RowError], None] | None = None,
    empty: bool = False,
) -> Iterator[Record]:
    """Yield the objects of an open, uncompressed file; as `read_records`."""
    count = 0
    for record in _records(_lines(opened, name), name):
        count += 1
        if isinstance(record, Record):
            yield record
        elif lose is None:
            raise record
        else:
            lose(record)
    if not count and not empty:
        problem = "found no row (an empty file, blank lines, or an empty array)"
        raise InputError(f"{name}: {problem}, {EXPECTED}")


def is_parquet(path: Path, name: str | None = None) -> bool:
    """Return whether a file begins as parquet does, whatever its suffix.

    Raises:
        InputError: the file cannot be opened or is empty.
    """
    name = name or str(path)
    with _open(path, name) as opened:
        head = opened.read(4)
    if not head:
        raise InputError(f"{name}: found an empty file, expected parquet, JSON or JSON lines")
    return head in PARQUET


@contextmanager
def open_plain(path: Path, name: str) -> Iterator[BinaryIO]:
    """Open a file for reading, decompressed where its first bytes say that it is compressed.

    Raises:
        InputError: it is missing, a folder, a dangling link, not a file, or may not be read; also
            for an error of the system or of the compression inside the block.
    """
    with _open(path, name) as raw:
        head = raw.peek(8)
        kind = next((kind for magic, kind in COMPRESSED.items() if head.startswith(magic)), None)
        try:
            yield _decompressed(raw, kind, name) if kind else raw
        except (EOFError, zlib.error, lzma.LZMAError, OSError) as error:
            if kind is None:
                raise InputError(f"{name}: cannot be read ({_first_line(error)})") from None
            problem = f"{kind} data that are cut off or damaged ({_first_line(error)})"
            raise InputError(f"{name}: found {problem}, expected a whole file") from None


def _open(path: Path, name: str) -> Any:
    """Return the regular file opened, buffered."""
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise InputError(f"{name}: found a folder, expected a file")
        if not stat.S_ISREG(mode):
            raise InputError(f"{name}: found a device, pipe or socket, expected a file")
        return open(path, "rb")
    except FileNotFoundError:
        if os.path.islink(path):
            problem = f"found a link to '{os.readlink(path)}', which is not there"
            raise InputError(f"{name}: {problem}, expected a file") from None
        raise InputError(f"{name}: no such file") from None
    except (OSError, ValueError) as error:  # ValueError: a path with a zero byte
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise InputError(f"{name}: cannot be opened ({reason})") from None


def _decompressed(raw: BinaryIO, kind: str, name: str) -> Any:
    if kind == "gzip":
        return gzip.GzipFile(fileobj=raw)
    if kind == "bzip2":
        return bz2.BZ2File(raw)
    if kind == "xz":
        return lzma.LZMAFile(raw)
    try:
        import pyarrow
    except ImportError:
        raise InputError(f"{name}: found zstd data, expected plain text or gzip") from None
    return pyarrow.CompressedInputStream(pyarrow.PythonFile(raw, mode="r"), "zstd")


def _lines(opened: Any, name: str) -> Iterator[str]:
    """Yield the lines of a file with their line feeds, decoded.

    Raises:
        InputError: the file is of another format, or not in its encoding.
    """
    head, pieces = _head(opened)
    if not head:
        return
    _refuse_foreign(head, name)
    encoding: str = json.detect_encoding(head)
    # The mark at the beginning is passed over; the encodings below read one of each order.
    if encoding == "utf-8-sig":
        encoding = "utf-8"
    elif encoding in ("utf-16", "utf-32"):
        little = head.startswith(b"\xff\xfe")
        encoding += "-le" if little else "-be"
    ending = "\n".encode(encoding)
    offset = 0
    for number, line in enumerate(_split(pieces, ending), 1):
        try:
            text = line.decode(encoding)
        except UnicodeDecodeError as error:
            where = f"{name}, line {number}, byte {offset + error.start}"
            problem = f"found 0x{line[error.start]:02x}, which is not {encoding.upper()}"
            hint = " (in Latin-1 or Windows-1252?)" if encoding == "utf-8" else ""
            expected = "expected UTF-8, UTF-16 or UTF-32"
            raise InputError(f"{where}: {problem}{hint}, {expected}") from None
        offset += len(line)
        # A mark at the beginning of a later line is left of files that were joined.
        yield text.removeprefix("\ufeff")


def _head(opened: Any) -> tuple[bytes, Iterator[bytes]]:
    """Return the beginning of a file, and all of the file in pieces."""
    head = b""
    while len(head) < HEAD_BYTES and (piece := opened.read(HEAD_BYTES - len(head))):
        head += piece
    rest = iter(lambda: opened.read(1 << 20), b"")
    return head, itertools.chain([head], rest)


def _split(pieces: Iterator[bytes], ending: bytes) -> Iterator[bytes]:
    """Yield lines with their endings; an ending begins at a multiple of its own length."""
    width = len(ending)
    waiting: list[bytes] = []  # pieces of a line whose ending has not come yet
    held = b""
    for piece in pieces:
        piece = held + piece
        whole = len(piece) // width * width
        piece, held = piece[:whole], piece[whole:]
        start = search = 0
        while (position := piece.find(ending, search)) >= 0:
            search = position + 1
            if position % width:
                continue
            yield b"".join([*waiting, piece[start : position + width]])
            waiting, start, search = [], position + width, position + width
        if start < len(piece):
            waiting.append(piece[start:])
    if waiting or held:
        yield b"".join([*waiting, held])


def _refuse_foreign(head: bytes, name: str) -> None:
    description = next((what for magic, what in FOREIGN.items() if head.startswith(magic)), None)
    if head[TAR[1] :].startswith(TAR[0]):
        description = "a tar archive"
    start = head.replace(b"\0", b"").lstrip(b"\xef\xbb\xbf\xff\xfe \t\r\n")
    if start.startswith(b"<"):
        description = "a page in HTML or XML (of a proxy, or to log in?)"
    if not head.strip(b"\0"):
        description = "zero bytes (a file that was never written?)"
    if description:
        raise InputError(f"{name}: found {description}, {EXPECTED}")


def _records(lines: Iterator[str], name: str) -> Iterator[Record | RowError]:
    """Yield each row, or what is wrong with the row."""
    numbered = ((number, line) for number, line in enumerate(lines, 1) if line.strip(BLANK))
    first = next(numbered, None)
    if first is None:
        return
    number, line = first
    if line.lstrip(BLANK).startswith("["):
        yield from _elements(_Text("".join([line, *lines]), name, number))
        return
    try:
        DECODER.decode(line)
    except json.JSONDecodeError as error:
        if not line[error.pos :].strip(BLANK) or error.msg.startswith("Unterminated string"):
            # The line ends within a value: one object over several lines.
            yield from _only_object(_Text("".join([line, *lines]), name, number))
            return
    except (_Fault, ValueError, RecursionError):
        pass  # a fault of the row: said below
    for number, line in itertools.chain([first], numbered):
        yield _line(line, number, name)


def _line(line: str, number: int, name: str) -> Record | RowError:
    location = f"line {number}"
    try:
        return Record(number, location, _object(line))
    except _Fault as fault:
        return _row_error(fault, f"{name}, {location}")
    except json.JSONDecodeError as error:
        _raise_syntax(error, f"{name}, {location}, column {error.pos + 1}", line)


def _object(text: str) -> dict[str, Any]:
    """Return the object that a text holds.

    Raises:
        _Fault: it can be parsed and not be used.
        json.JSONDecodeError: it cannot be parsed.
    """
    with _faults():
        value = DECODER.decode(text)
    return _usable(value, text)


@contextmanager
def _faults() -> Iterator[None]:
    """Turn what Python raises for valid JSON that it does not hold into a fault of the row."""
    try:
        yield
    except json.JSONDecodeError:
        raise
    except RecursionError:
        raise _Fault("nested too deeply", f"more than {MAX_DEPTH} levels of nesting") from None
    except ValueError:
        raise _Fault("number too long", "a whole number of thousands of digits") from None


def _usable(value: Any, text: str) -> dict[str, Any]:
    """Return the value that was read from the text; raise `_Fault` where it is of no use."""
    if text.count("[") + text.count("{") > MAX_DEPTH and _too_deep(value):
        raise _Fault("nested too deeply", f"more than {MAX_DEPTH} levels of nesting")
    if not isinstance(value, dict):
        raise _Fault("not an object", f"{kind_of(value)} ({shortened(value)})")
    if _SURROGATE.search(text):
        try:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError:
            problem = "half of a surrogate pair, which is no character"
            raise _Fault("lone surrogate", problem) from None
    return value


def _too_deep(value: Any) -> bool:
    level = [value] if isinstance(value, (dict, list)) else []
    for _ in range(MAX_DEPTH):
        lists = [item.values() if isinstance(item, dict) else item for item in level]
        level = [inner for items in lists for inner in items if isinstance(inner, (dict, list))]
    return bool(level)


def _row_error(fault: _Fault, where: str) -> RowError:
    reason, detail = fault.args
    return RowError(reason, f"{where}: found {detail}, expected a JSON object")


def kind_of(value: Any) -> str:
    """Return what JSON calls a value, with its article."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    kinds = {str: "a string", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return kinds.get(type(value), f"a value of type {type(value).__name__}")


def shortened(value: Any, limit: int = 60) -> str:
    """Return a value on one line of at most `limit` characters, escaped where not printable."""
    text = json.dumps(value, ensure_ascii=False, default=repr)[: limit + 1]
    text = "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text)
    return text if len(text) <= limit else text[:limit] + "..."


def _raise_syntax(error: json.JSONDecodeError, where: str, text: str) -> NoReturn:
    rest = text[error.pos : error.pos + 61].strip(BLANK)
    shown = shortened(rest, 30)
    if error.msg == "Extra data":
        detail = f"more text after the value ({shown})"
    elif not rest or error.msg.startswith("Unterminated string"):
        detail = f"the end of the text within a value ({error.msg})"
    else:
        detail = f"no valid JSON ({error.msg}: {shown})"
    raise InputError(f"{where}: found {detail}, {EXPECTED}") from None


class _Text:
    """A whole file as text, read value by value.

    Args:
        text: the file from its first line that is not blank.
        name: the file's name in messages.
        line: the number of that line.
    """

    def __init__(self, text: str, name: str, line: int) -> None:
        self.text, self.name = text, name
        self.position = 0
        self._line, self._counted = line, 0

    def line(self, position: int) -> int:
        """Return the line of a position, which is not before that of the last call."""
        self._line += self.text.count("\n", self._counted, position)
        self._counted = position
        return self._line

    def blank(self) -> str:
        """Move to what is not blank, and return its first character; nothing at the end."""
        match = _BLANKS.match(self.text, self.position)
        self.position = match.end() if match else self.position
        return self.text[self.position : self.position + 1]

    def fail(self, error: json.JSONDecodeError) -> NoReturn:
        """Raise an `InputError` with line and column of a fault of syntax."""
        column = error.pos - self.text.rfind("\n", 0, error.pos)
        where = f"{self.name}, line {self.line(error.pos)}, column {column}"
        _raise_syntax(error, where, self.text)

    def expect_end(self) -> None:
        """Raise an `InputError` where more follows."""
        if self.blank():
            self.fail(json.JSONDecodeError("Extra data", self.text, self.position))

    def value(self) -> dict[str, Any]:
        """Read one value, and stand behind it, for `_Fault` too; syntax raises `InputError`."""
        start = self.position
        try:
            try:
                with _faults():
                    value, self.position = DECODER.raw_decode(self.text, start)
            except _Fault as fault:
                # The numbers stay text, to find where the value ends.
                try:
                    _, self.position = LENIENT.raw_decode(self.text, start)
                except RecursionError:
                    _, detail = fault.args
                    where = f"{self.name}, line {self.line(start)}"
                    raise InputError(f"{where}: found {detail}, {EXPECTED}") from None
                raise fault from None
        except json.JSONDecodeError as error:
            self.fail(error)
        return _usable(value, self.text[start : self.position])


def _elements(text: _Text) -> Iterator[Record | RowError]:
    """Yield the elements of an array."""
    text.blank()
    text.position += 1
    if text.blank() == "]":
        text.position += 1
        text.expect_end()
        return
    for number in itertools.count(1):
        text.blank()
        location = f"element {number} (line {text.line(text.position)})"
        try:
            yield Record(number, location, text.value())
        except _Fault as fault:
            yield _row_error(fault, f"{text.name}, {location}")
        sign = text.blank()
        if sign not in (",", "]"):
            text.fail(json.JSONDecodeError("Expecting ',' or ']'", text.text, text.position))
        text.position += 1
        if sign == "]":
            text.expect_end()
            return


def _only_object(text: _Text) -> Iterator[Record | RowError]:
    """Yield the objects of a file whose first one is written over several lines."""
    for number in itertools.count(1):
        if not text.blank():
            return
        line = text.line(text.position)
        location = f"object {number} (line {line})" if number > 1 else f"line {line}"
        try:
            yield Record(number, location, text.value())
        except _Fault as fault:
            yield _row_error(fault, f"{text.name}, {location}")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        keys = [key for key, _ in pairs]
        key = next(key for index, key in enumerate(keys) if key in keys[:index])
        raise _Fault("key twice", f"the key {shortened(key)} twice in one object")
    return value


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise _Fault("number too large", f"the number {text[:30]}, beyond a double's range")
    return value


def _no_number(text: str) -> NoReturn:
    raise _Fault("NaN or infinity", f"{text}, which is no JSON")


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


_BLANKS = re.compile(f"[{BLANK}]*")
DECODER = json.JSONDecoder(
    object_pairs_hook=_unique,
    parse_float=_finite,
    parse_constant=_no_number,
)
LENIENT = json.JSONDecoder(parse_int=str, parse_float=str)
