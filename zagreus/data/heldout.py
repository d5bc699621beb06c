"""Which documents are held apart from training."""

from __future__ import annotations

import hashlib


def held_apart(key: str, share: float) -> bool:
    """Return whether the document is held apart.

    The first eight bytes of the key's sha256, as a fraction of 2^64, are below `share`: the same document always falls on
    the same side, whatever the tasks, and a translation with the same key falls on the same side as its original.

    Args:
        key: the document's language-independent key.
        share: the share that is held apart, from 0 to 1.
    """
    return int.from_bytes(hashlib.sha256(key.encode("utf-8")).digest()[:8], "big") < share * 2**64
