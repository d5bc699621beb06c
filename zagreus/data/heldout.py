"""Which documents are held out from training."""

from __future__ import annotations

import hashlib
import math
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from zagreus.data.columns import offsets


def held_apart(key: str, share: float) -> bool:
    """Return whether the document is held out.

    The first eight bytes of the key's sha256, as a fraction of 2^64, are below `share`: the same
    document always falls on the same side, whatever the tasks, and a translation with the same key
    falls on the same side as its original.

    Args:
        key: the document's language-independent key.
        share: the share that is held out, from 0 to 1.
    """
    return int.from_bytes(hashlib.sha256(key.encode("utf-8")).digest()[:8], "big") < share * 2**64


def held_apart_all(keys: pa.Array, share: float) -> Any:
    """Return an array of bool: `held_apart` of each key of a `string` array."""
    # An integer is below a number where it is below the number's ceiling: no rounding.
    threshold = math.ceil(share * 2**64)
    if threshold <= 0 or threshold >= 2**64:
        return np.full(len(keys), threshold > 0)
    ends = offsets(keys).tolist()
    content = (keys.buffers()[2] or pa.py_buffer(b"")).to_pybytes()
    sha256 = hashlib.sha256
    digests = b"".join([sha256(content[a:b]).digest() for a, b in pairwise(ends)])
    return np.frombuffer(digests, ">u8")[::4] < np.uint64(threshold)
