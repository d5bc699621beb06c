"""The name of an image: what it is made of, in twelve digits."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from zagreus.errors import InputError


def digest(parts: Sequence[Path]) -> str:
    """Return the first twelve hexadecimal digits of the sha256 over the contents of `parts`, in
    their order.
    """
    whole = hashlib.sha256()
    for part in parts:
        if not part.is_file():
            raise InputError(f"{part}: no such file; an image's name is a digest over it")
        content = part.read_bytes()
        # The length keeps a byte that moves from one file into the next from going unseen.
        whole.update(len(content).to_bytes(8, "big") + content)
    return whole.hexdigest()[:12]
