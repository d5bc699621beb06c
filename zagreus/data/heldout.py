"""Which documents are held apart from training."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Any

import numpy as np


def held_apart(key: str, share: float) -> bool:
    """Return whether the document is held apart.

    The first eight bytes of the key's sha256, as a fraction of 2^64, are below `share`: the same document always falls on
    the same side, whatever the tasks, and a translation with the same key falls on the same side as its original.

    Args:
        key: the document's language-independent key.
        share: the share that is held apart, from 0 to 1.
    """
    return int.from_bytes(hashlib.sha256(key.encode("utf-8")).digest()[:8], "big") < share * 2**64


def held_apart_all(keys: Sequence[bytes], share: float) -> Any:
    """Return an array of bool: `held_apart` of each key, given in UTF-8."""
    # An integer is below a number where it is below the number's ceiling: no rounding.
    threshold = math.ceil(share * 2**64)
    if threshold <= 0 or threshold >= 2**64:
        return np.full(len(keys), threshold > 0)
    sha256 = hashlib.sha256
    digests = b"".join([sha256(key).digest() for key in keys])
    return np.frombuffer(digests, ">u8")[::4] < np.uint64(threshold)
