"""TensorBoard's event files, read as they grow.

A file is a row of TFRecords (length, its checksum, data, its checksum) of `Event` messages
(tensorflow/core/util/event.proto: step = 2, summary = 5; a summary's value: tag = 1,
simple_value = 2). Sums are not checked: a record that is cut off is waited for.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path

Point = dict[str, float]
LONGEST_RECORD = 1_000_000  # bytes; more is no record of a training's scalars


class EventFileReader:
    """The scalars of one event file, each read once."""

    def __init__(self, path: Path) -> None:
        """Remember a path, which need not be there yet."""
        self.path = path
        self._offset = 0

    def read(self) -> tuple[bool, list[Point]]:
        """Return whether the file begins anew, and its points since the last look.

        A point holds `step` and the scalars of one record by their tags.
        """
        try:
            if not self.path.is_file():
                return False, []
            with open(self.path, "rb") as stream:
                size = os.fstat(stream.fileno()).st_size
                anew = size < self._offset
                if anew:
                    self._offset = 0
                stream.seek(self._offset)
                data = stream.read(size - self._offset)
        except OSError:
            return False, []
        points, used = _points(data)
        self._offset += used
        return anew, points


def _points(data: bytes) -> tuple[list[Point], int]:
    """Return the points of whole records, and the bytes that they take."""
    points, offset = [], 0
    while offset + 12 <= len(data):
        (length,) = struct.unpack_from("<Q", data, offset)
        if length > LONGEST_RECORD or offset + 16 + length > len(data):
            break
        try:
            point = _event(data[offset + 12 : offset + 12 + length])
        except (IndexError, ValueError, struct.error):
            break  # no event file: nothing behind this place can be trusted
        if len(point) > 1:
            points.append(point)
        offset += 16 + length
    return points, offset


def _event(message: bytes) -> Point:
    point: Point = {"step": 0}
    for number, value in _fields(message):
        if number == 2 and isinstance(value, int):
            point["step"] = value
        elif number == 5 and isinstance(value, bytes):
            for inner, scalar in _fields(value):
                if inner == 1 and isinstance(scalar, bytes):
                    named = dict(_fields(scalar))
                    tag, number_bytes = named.get(1), named.get(2)
                    if isinstance(tag, bytes) and isinstance(number_bytes, bytes):
                        (point[tag.decode()],) = struct.unpack("<f", number_bytes)
    return point


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield (number, value) of a message of protocol buffers; fixed widths come as bytes."""
    offset = 0
    while offset < len(message):
        key, offset = _varint(message, offset)
        match key & 7:
            case 0:
                value, offset = _varint(message, offset)
                yield key >> 3, value
            case 1 | 5:
                width = 8 if key & 7 == 1 else 4
                yield key >> 3, message[offset : offset + width]
                offset += width
            case 2:
                length, offset = _varint(message, offset)
                yield key >> 3, message[offset : offset + length]
                offset += length
            case other:
                raise ValueError(f"wire type {other}")


def _varint(message: bytes, offset: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[offset]
        value |= (byte & 127) << shift
        offset += 1
        shift += 7
        if byte < 128:
            return value, offset
