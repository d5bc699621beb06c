"""TensorBoard's file.

The checksum against its published value, and every record read back as the format says.
"""

import struct
from pathlib import Path

from small import Training

from zagreus.training.events import EventFile, _checksum


def fields(data: bytes) -> list[tuple[int, object]]:
    """Read a protobuf message: (number, value) of each field."""

    def varint(offset: int) -> tuple[int, int]:
        value = shift = 0
        while True:
            value |= (data[offset] & 127) << shift
            shift, offset = shift + 7, offset + 1
            if data[offset - 1] < 128:
                return value, offset

    result, offset = [], 0
    while offset < len(data):
        key, offset = varint(offset)
        if key & 7 == 0:
            value, offset = varint(offset)
        else:
            size, offset = {1: (8, offset), 5: (4, offset)}.get(key & 7) or varint(offset)
            value, offset = data[offset : offset + size], offset + size
        result.append((key >> 3, value))
    return result


def records(file: Path) -> list[bytes]:
    """Read a TFRecord file, checksums checked."""
    content, offset, result = file.read_bytes(), 0, []
    while offset < len(content):
        head = content[offset : offset + 8]
        (size,) = struct.unpack("<Q", head)
        data = content[offset + 12 : offset + 12 + size]
        assert content[offset + 8 : offset + 12] == _checksum(head) and content[
            offset + 12 + size : offset + 16 + size
        ] == _checksum(data)
        result.append(data)
        offset += 16 + size
    return result


def test_the_checksum_is_crc32c_masked() -> None:
    # CRC-32C of "123456789" is 0xE3069283 (RFC 3720 and every catalogue of CRCs); the mask is
    # TFRecord's.
    crc = 0xE3069283
    assert _checksum(b"123456789") == struct.pack(
        "<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
    )


def test_numbers_come_back_at_their_steps(tmp_path: Path) -> None:
    events = EventFile(tmp_path / "a")
    events.add({"step": 3, "loss": 2.5, "mfu": None})
    events.add({"step": 70000, "loss": 0.125, "tokens": 10**9, "heldout_losses": {"a/b": 1.5}})
    events.close()
    head, *rest = records(tmp_path / "a" / "events.out.tfevents.0")
    assert dict(fields(head))[3] == b"brain.Event:2"
    scalars = []
    for record in map(dict, map(fields, rest)):
        values = {
            dict(fields(v))[1]: struct.unpack("<f", dict(fields(v))[2])[0]
            for _, v in fields(record[5])
        }
        scalars.append((record[2], values))
    assert scalars == [
        (3, {b"loss": 2.5}),
        (70000, {b"loss": 0.125, b"tokens": 1e9, b"heldout_losses/a/b": 1.5}),
    ]


def test_a_training_writes_every_step_once_and_says_what_to_expect(tmp_path: Path) -> None:
    training = Training(tmp_path)
    done = training.train(12)
    assert done.returncode == 0, done.stderr
    assert "expected: 7 more steps in 0:00:0" in done.stderr
    steps = [
        dict(fields(record))[2]
        for record in records(tmp_path / "tensorboard/12/events.out.tfevents.0")[1:]
    ]
    assert steps == list(range(1, 13))
