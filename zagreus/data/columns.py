"""Between numpy's arrays and Arrow's.

`pa.array`, `pa.scalar` and `to_numpy` would import pandas first: a third of a second of each job.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa


def integers(values: Any) -> pa.Array:
    """Return numbers as an array of `int64`."""
    values = np.ascontiguousarray(values, np.int64)
    return pa.Array.from_buffers(pa.int64(), len(values), [None, pa.py_buffer(values)])


def booleans(values: Any) -> pa.Array:
    """Return an array of `bool`, for `filter`."""
    bits = np.packbits(np.asarray(values, bool), bitorder="little")
    return pa.Array.from_buffers(pa.bool_(), len(values), [None, pa.py_buffer(bits)])


def strings(text: str, count: int) -> pa.Array:
    """Return an array of `string` with one text `count` times."""
    content = text.encode("utf-8")
    ends = np.arange(count + 1, dtype=np.int32) * len(content)
    buffers = [None, pa.py_buffer(ends), pa.py_buffer(content * count)]
    return pa.Array.from_buffers(pa.string(), count, buffers)


def has_value(array: pa.Array) -> Any:
    """Return which rows are not null, as an array of bool."""
    bits = array.buffers()[0]
    if not array.null_count or bits is None:
        return np.full(len(array), not array.null_count)
    unpacked = np.unpackbits(np.frombuffer(bits, np.uint8), bitorder="little")
    return unpacked[array.offset : array.offset + len(array)].astype(bool)


def offsets(array: pa.Array) -> Any:
    """Return the offsets of a string or binary array's values in its buffer, n + 1."""
    large = pa.types.is_large_string(array.type) or pa.types.is_large_binary(array.type)
    buffer = array.buffers()[1]
    if not len(array) or buffer is None:
        return np.zeros(len(array) + 1, np.int64)
    values = np.frombuffer(buffer, np.int64 if large else np.int32)
    return values[array.offset : array.offset + len(array) + 1]


def lengths(array: pa.Array) -> Any:
    """Return the bytes of the values of a string or binary array (int64); of a null, 0."""
    sizes = np.diff(offsets(array).astype(np.int64))
    if array.null_count:
        sizes[~has_value(array)] = 0
    return sizes
