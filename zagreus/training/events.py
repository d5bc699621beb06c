"""The log as TensorBoard reads it: `tensorboard --logdir results/demo/pretrain`.

An event file is a TFRecord file (length, its checksum, data, its checksum; CRC-32C, masked) of
`Event` messages (tensorflow/core/util/event.proto: wall_time = 1, step = 2, file_version = 3,
summary = 5). torch's writer needs the tensorboard package, forty times what is written here.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_POLYNOMIAL = 0x82F63B78  # Castagnoli, reversed


def _table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (_POLYNOMIAL if value & 1 else 0)
        table.append(value)
    return table


_TABLE = _table()


class EventFile:
    """An event file that grows with the training."""

    def __init__(self, folder: Path) -> None:
        """Begin the one file of a folder anew."""
        folder.mkdir(parents=True, exist_ok=True)
        self._file = open(folder / "events.out.tfevents.0", "wb")  # noqa: SIM115 (closed with the training)
        self._record(_wall_time() + _field(3, b"brain.Event:2"))

    def add(self, record: Mapping[str, Any]) -> None:
        """Add a line of the log.

        Each of its numbers at its step, those of a mapping as `GROUP/NAME`.
        """
        values = b""
        numbers = dict(record)
        for group, members in record.items():
            if isinstance(members, Mapping):
                numbers |= {f"{group}/{name}": value for name, value in members.items()}
        for name, value in numbers.items():
            if name != "step" and isinstance(value, (int, float)):
                values += _field(1, _field(1, name.encode()) + b"\x15" + struct.pack("<f", value))
        self._record(_wall_time() + b"\x10" + _varint(record["step"]) + _field(5, values))
        self._file.flush()

    def close(self) -> None:
        """End the file."""
        self._file.close()

    def _record(self, data: bytes) -> None:
        length = struct.pack("<Q", len(data))
        self._file.write(length + _checksum(length) + data + _checksum(data))


def _wall_time() -> bytes:
    return b"\x09" + struct.pack("<d", time.time())


def _field(number: int, content: bytes) -> bytes:
    """Return a field of bytes, a string or a message."""
    return bytes([number << 3 | 2]) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    parts = bytearray()
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])


def _checksum(data: bytes) -> bytes:
    """Return the masked CRC-32C."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 255] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)
