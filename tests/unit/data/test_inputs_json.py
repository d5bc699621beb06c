"""JSON and JSON lines from elsewhere: what is read, what is refused, and with which line."""

import bz2
import gzip
import json
import lzma
import os
import re
import socket
from pathlib import Path

import pyarrow
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from zagreus.errors import InputError
from zagreus.records import MAX_DEPTH, RowError, is_parquet, read_records

TEXT = '{"a": 1}\n{"b": "perché\u2028x\u2029y\x85z"}\n'
GOOD = TEXT.encode()
VALUES = [json.loads(line) for line in TEXT.split("\n") if line]
PRETTY = json.dumps(VALUES, indent=2, ensure_ascii=False)
LONG = [{"a": "x" * 3_000_000}, {"a": "y"}]
DEEP = "[" * (MAX_DEPTH - 1) + "]" * (MAX_DEPTH - 1)

READ = {
    "plain": (GOOD, VALUES),
    "no line feed at the end": (GOOD.removesuffix(b"\n"), VALUES),
    "byte order mark": (b"\xef\xbb\xbf" + GOOD, VALUES),
    "byte order mark in the middle, of joined files": (GOOD + b"\xef\xbb\xbf" + GOOD, VALUES * 2),
    "blank lines": (GOOD.replace(b"\n", b"\n \n\t\r\n"), VALUES),
    "line ends of Windows": (GOOD.replace(b"\n", b"\r\n"), VALUES),
    "UTF-16 with a mark": (TEXT.encode("utf-16"), VALUES),
    "UTF-16, big end first": (b"\xfe\xff" + TEXT.encode("utf-16-be"), VALUES),
    "UTF-16 without a mark": (TEXT.encode("utf-16-le"), VALUES),
    "UTF-16 with a line feed's byte in a character": (
        '{"a": "\u0a0a"}\n{}'.encode("utf-16"),
        [{"a": "\u0a0a"}, {}],
    ),
    "UTF-32": (TEXT.encode("utf-32"), VALUES),
    "gzip": (gzip.compress(GOOD), VALUES),
    "gzip in two parts": (gzip.compress(GOOD) * 2, VALUES * 2),
    "gzip of UTF-16": (gzip.compress(TEXT.encode("utf-16")), VALUES),
    "zstd": (pyarrow.compress(GOOD, codec="zstd", asbytes=True), VALUES),
    "bzip2": (bz2.compress(GOOD), VALUES),
    "xz": (lzma.compress(GOOD), VALUES),
    "array on one line": (json.dumps(VALUES).encode(), VALUES),
    "array over lines": (PRETTY.encode(), VALUES),
    "array with a mark": (b"\xef\xbb\xbf\n" + PRETTY.encode(), VALUES),
    "one object": (b'{"a": 1}', [{"a": 1}]),
    "one object over lines": (b'\n{\n "a": {"b": [1,\n 2]}\n}\n', [{"a": {"b": [1, 2]}}]),
    "objects over lines": (b'{\n "a": 1\n}\n{\n "a": 2\n}\n', [{"a": 1}, {"a": 2}]),
    "rows of megabytes": ("\n".join(map(json.dumps, LONG)).encode(), LONG),
    "array of megabytes": (json.dumps(LONG).encode(), LONG),
    "a whole surrogate pair": (rb'{"a": "\ud83d\ude00"}', [{"a": "\U0001f600"}]),
    "an escaped backslash before u": (rb'{"a": "\\ud800"}', [{"a": "\\ud800"}]),
    "nesting up to the limit": (f'{{"a": {DEEP}}}'.encode(), [{"a": json.loads(DEEP)}]),
    "many lists, none deep": (json.dumps({"a": [[]] * 500}).encode(), [{"a": [[]] * 500}]),
    "zero character": (rb'{"a": "\u0000"}', [{"a": "\0"}]),
}

# A row that cannot be used: one line with the row, or counted.
LOST = {
    "null": ("null", "not an object", "found null"),
    "number": ("3", "not an object", "found a number \\(3\\)"),
    "string": ('"x"', "not an object", 'found a string \\("x"\\)'),
    "true": ("true", "not an object", "found true or false"),
    "list": ('["x"]', "not an object", "found a list"),
    "lone surrogate": (r'{"a": "\ud800"}', "lone surrogate", "half of a surrogate pair"),
    "lone surrogate in a key": (r'{"\uDFFF": 1}', "lone surrogate", "half of a surrogate pair"),
    "NaN": ('{"a": NaN}', "NaN or infinity", "found NaN"),
    "infinity": ('{"a": [-Infinity]}', "NaN or infinity", "found -Infinity"),
    "beyond a double": ('{"a": 1e999}', "number too large", "the number 1e999"),
    "10,000 digits": (
        f'{{"a": {"9" * 10_000}}}',
        "number too long",
        "a whole number of thousands of digits",
    ),
    "key twice": ('{"a": {"b": 1, "b": 2}}', "key twice", 'the key "b" twice'),
    "deep": (
        '{"a": ' + "[" * MAX_DEPTH + "]" * MAX_DEPTH + "}",
        "nested too deeply",
        f"more than {MAX_DEPTH} levels",
    ),
    "very deep": (
        '{"a": ' + "[" * 100_000 + "]" * 100_000 + "}",
        "nested too deeply",
        f"more than {MAX_DEPTH} levels",
    ),
}

REFUSED = {
    "empty file": (b"", "F: found no row \\(an empty file"),
    "blank lines": (b" \n\r\n", "F: found no row"),
    "empty array": (b"[]", "F: found no row"),
    "Latin-1": (
        GOOD + '{"a": "è"}'.encode("latin-1"),
        "F, line 3, byte \\d+: found 0xe8, which is not UTF-8 \\(in Latin-1",
    ),
    "surrogate in UTF-8": (b'{"a": "\xed\xa0\x80"}', "F, line 1, byte 7: found 0xed"),
    "surrogate in UTF-16": (
        '{"a": "x"}'.encode("utf-16").replace(b"x\0", b"\0\xd8"),
        "F, line 1, byte 16: .* not UTF-16-LE",
    ),
    "half a character of UTF-16": (
        TEXT.encode("utf-16")[:-1],
        "F, line 2, byte \\d+: found 0x0a, which is not UTF-16-LE",
    ),
    "gzip cut off": (gzip.compress(GOOD)[:-9], "F: found gzip data that are cut off or damaged"),
    "gzip damaged": (
        gzip.compress(GOOD)[:14] + b"\xff" * 30,
        "F: found gzip data that are cut off or damaged",
    ),
    "gzip of nothing": (gzip.compress(b""), "F: found no row"),
    "zstd cut off": (
        pyarrow.compress(GOOD, codec="zstd", asbytes=True)[:-5],
        "F: found zstd data that are cut off",
    ),
    "bzip2 cut off": (bz2.compress(GOOD)[:-9], "F: found bzip2 data that are cut off"),
    "xz damaged": (lzma.compress(GOOD)[:-30], "F: found xz data that are cut off or damaged"),
    "HTML": (b"\xef\xbb\xbf\n<!DOCTYPE html>", "F: found a page in HTML or XML"),
    "parquet": (b"PAR1....PAR1", "F: found a parquet file"),
    "Arrow": (b"ARROW1\0\0", "F: found an Arrow file"),
    "zip": (b"PK\x03\x04rest", "F: found a zip archive"),
    "tar": (b"x" * 257 + b"ustar\x00rest", "F: found a tar archive"),
    "gzip of a tar": (gzip.compress(b"x" * 257 + b"ustar\x00rest"), "F: found a tar archive"),
    "pointer of Git LFS": (
        b"version https://git-lfs.github.com/spec/v1",
        "F: found a Git LFS pointer",
    ),
    "zero bytes": (b"\0" * 5000, "F: found zero bytes"),
    "zero bytes at the end": (GOOD + b"\0" * 9, "F, line 3, column 1: found no valid JSON"),
    "CSV": (b"id,text\n1,x\n", 'F, line 1, column 1: found no valid JSON .*"id,text"'),
    "Python": (b"{'a': 1}\n", "F, line 1, column 2: found no valid JSON"),
    "a line cut off": (
        b'{"a": 1}\n{"a": "b',
        "F, line 2, column 7: found the end of the text within a value",
    ),
    "the first line cut off": (
        b'{"a": [1,',
        "F, line 1, column 10: found the end of the text within a value",
    ),
    "the first line cut off, more follow": (
        b'{"a": 1,\n{"a": 2}\n',
        "F, line 2, column 1: found no valid JSON",
    ),
    "two on a line": (
        b'{"a": 1}{"a": 2}\n',
        "F, line 1, column 9: found more text after the value",
    ),
    "line ends of old Macs": (
        b'{"a": 1}\r{"a": 2}\r',
        "F, line 1, column 10: found more text after the value",
    ),
    "array cut off": (
        b'[{"a": 1},\n {"a"',
        "F, line 2, column 6: found the end of the text within a value",
    ),
    "array without its end": (b'[{"a": 1}\n', "F, line 2, column 1: found the end of the text"),
    "array without a comma": (
        b'[{"a": 1}\n {"a": 2}]',
        "F, line 2, column 2: found no valid JSON .Expecting ',' or",
    ),
    "array with a comma too many": (b'[{"a": 1},]', "F, line 1, column 11: found no valid JSON"),
    "text after an array": (
        b'[{"a": 1}]\n{"a": 2}',
        "F, line 2, column 1: found more text after the value",
    ),
    "lists in lines": (b"[{}]\n[{}]\n", "F, line 2, column 1: found more text after the value"),
    "very deep in an array": (
        b'[{"a": ' + b"[" * 100_000,
        "F, line 1: found more than 100 levels of nesting",
    ),
}


def write(folder: Path, content: bytes) -> Path:
    path = folder / "rows.jsonl"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(("content", "values"), READ.values(), ids=READ)
def test_read(tmp_path: Path, content: bytes, values: list) -> None:
    assert [record.value for record in read_records(write(tmp_path, content), "F")] == values


@pytest.mark.parametrize(("content", "line"), REFUSED.values(), ids=REFUSED)
def test_refused(tmp_path: Path, content: bytes, line: str) -> None:
    with pytest.raises(InputError) as raised:
        list(read_records(write(tmp_path, content), "F", lose=lambda error: None))
    assert re.match(line, str(raised.value)) and "\n" not in str(raised.value)
    assert len(str(raised.value)) < 400 and "expected" in str(raised.value)


@pytest.mark.parametrize(("row", "reason", "line"), LOST.values(), ids=LOST)
def test_a_row_that_cannot_be_used(tmp_path: Path, row: str, reason: str, line: str) -> None:
    rows = ['{"a": 0}', row, '{"a": 2}']
    _lost(write(tmp_path, "\n".join(rows).encode()), "line 2", reason, line)
    if len(row) < 100_000:  # else the end of the row cannot be found in an array
        array = "[" + ",\n".join(rows) + "]"
        _lost(write(tmp_path, array.encode()), "element 2 \\(line 2\\)", reason, line)


def _lost(path: Path, location: str, reason: str, line: str) -> None:
    with pytest.raises(RowError) as raised:
        list(read_records(path, "F"))
    assert re.match(f"F, {location}: .*{line}", str(raised.value)) and len(str(raised.value)) < 300
    lost: list[RowError] = []
    kept = [record.value["a"] for record in read_records(path, "F", lose=lost.append)]
    assert (kept, [error.reason for error in lost]) == ([0, 2], [reason])


def test_places(tmp_path: Path) -> None:
    records = read_records(write(tmp_path, b'\n{"a": 1}\n\n{"a": 2}\n'))
    assert [(record.row, record.location) for record in records] == [(2, "line 2"), (4, "line 4")]
    records = read_records(write(tmp_path, b'\n[{"a": 1},\n{"a":\n 2}, {}]'))
    assert [record.location for record in records] == [
        "element 1 (line 2)",
        "element 2 (line 3)",
        "element 3 (line 4)",
    ]
    assert list(read_records(write(tmp_path, b""), empty=True)) == []


def test_what_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "away")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    os.mkfifo(tmp_path / "pipe")
    held = socket.socket(socket.AF_UNIX)
    held.bind(str(tmp_path / "socket"))
    for name, line in {
        "absent": "no such file",
        "link": "found a link to '.*away', which is not there",
        "loop": "cannot be opened",
        ".": "found a folder, expected a file",
        "pipe": "found a device, pipe or socket",
        "socket": "found a device, pipe or socket",
        "x" * 300: "cannot be opened",
        "a\0b": "cannot be opened",
    }.items():
        for read in (read_records, is_parquet):
            with pytest.raises(InputError, match=line) as raised:
                list(read(tmp_path / name, "F"))  # type: ignore[call-overload]
            assert str(raised.value).startswith("F: ")
    held.close()


@settings(max_examples=400, deadline=None)
@given(
    st.sampled_from([GOOD, PRETTY.encode(), TEXT.encode("utf-16"), gzip.compress(GOOD)]), st.data()
)
def test_mutations_never_end_in_another_error_or_a_silent_loss(
    tmp_path_factory, content: bytes, data: st.DataObject
) -> None:
    """Every line of a plain file is a record, counted as lost, or the end of the reading."""
    mutated = bytearray(content)
    for _ in range(data.draw(st.integers(1, 3))):
        offset = data.draw(st.integers(0, len(mutated)))
        piece = data.draw(
            st.one_of(
                st.binary(max_size=3),
                st.sampled_from([b"\n", b'"', b"{", b"[", b"\\ud800", b"\xef\xbb\xbf"]),
            )
        )
        mutated[offset : offset + data.draw(st.integers(0, 3))] = piece
    _never_silent(tmp_path_factory.getbasetemp(), bytes(mutated))


@settings(max_examples=400, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=60), st.text('[]{},:" \n\\u0d8e-1.NaInf', max_size=40).map(str.encode)
    )
)
@example(b"\x1f\x8b")
@example(b"\xff\xfe")
@example(b"BZh9")
@example(b"\xfd7zXZ\x00")
@example(b"\x28\xb5\x2f\xfd")
def test_random_bytes_never_end_in_another_error(tmp_path_factory, content: bytes) -> None:
    _never_silent(tmp_path_factory.getbasetemp(), content)


def _never_silent(folder: Path, content: bytes) -> None:
    lost: list[RowError] = []
    try:
        read = [
            record.value for record in read_records(write(folder, content), "F", lose=lost.append)
        ]
    except InputError as error:
        assert "\n" not in str(error) and str(error).startswith("F")
        return
    assert read or lost
    for value in read:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    expected = _values(_plain(content))
    if expected is not None and not lost:
        assert read == expected
    elif expected is not None:
        assert len(read) + len(lost) == len(expected)


def _plain(content: bytes) -> str:
    """Return the text without the byte order marks that begin its lines; those in texts stay."""
    content = gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content
    return re.sub("^\ufeff+", "", content.decode(json.detect_encoding(content)), flags=re.MULTILINE)


def _values(text: str) -> list | None:
    """Return what the standard library makes of the whole text; None where it raises."""
    try:
        if text.strip().startswith("["):
            return json.loads(text)
        if text.strip().count("\n") and text.strip().split("\n")[0].strip() in ("{", ""):
            return [json.loads(text)]
        return [json.loads(line) for line in text.split("\n") if line.strip(" \t\r")]
    except ValueError:
        return None
