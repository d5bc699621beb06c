"""Secrets of the environment: read in one place, and kept out of everything that is printed or written.

Needs the standard library only, as every program imports it (by way of zagreus.errors).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from zagreus.errors import InputError

HIDDEN = "***"
# Variables that hold a secret, by their names.
SECRET_NAME = re.compile(r"(TOKEN|API_?KEY|PASSWORD|PASSWD|SECRET)$")
# A user's name and password before an address's host. The scheme may be missing in a cut message.
CREDENTIALS = re.compile(r"//[^/\s@'\"]+@")
# What an Authorization header carries: visible ASCII without white space (RFC 9110, 11.4; RFC 6750, 2.1).
TOKEN_SHAPE = re.compile(r"[\x21-\x7e]{1,512}")
SHORTEST = 6  # characters of a value that is hidden; shorter ones would hide ordinary words
# Longest first, so that no part of a value stays.
_VALUES: set[str] = set()


def _read() -> Iterator[str]:
    """Yield the secrets of the environment, in every form in which a library may show them."""
    for name, value in os.environ.items():
        if SECRET_NAME.search(name) and len(value.strip()) >= SHORTEST:
            for form in (value, value.strip(), *value.split()):
                if len(form) >= SHORTEST:
                    yield from (form, quote(form, safe=""), repr(form)[1:-1], ascii(form)[1:-1])
                    yield repr(form.encode("utf-8", "surrogateescape"))[2:-1]
    file = Path(os.environ.get("HF_TOKEN_PATH", ""))
    if file.is_file():
        yield file.read_text(encoding="utf-8", errors="replace").strip()


def mask(text: str) -> str:
    """Return a text without secrets: neither a variable's value nor credentials in an address."""
    _VALUES.update(value for value in _read() if len(value) >= SHORTEST)
    for value in sorted(_VALUES, key=len, reverse=True):
        text = text.replace(value, HIDDEN)
    return CREDENTIALS.sub(f"//{HIDDEN}@", text)


def hub_token() -> str | None:
    """Return HF_TOKEN without white space around it, None where the variable is not set or empty.

    The variable is set to what is returned: the hub's client reads it by itself.

    Raises:
        InputError: what is set cannot be a token; the message does not show the value.
    """
    mask("")  # remembers the value as it was
    given = os.environ.get("HF_TOKEN")
    token = (given or "").strip()
    if not token:
        os.environ.pop("HF_TOKEN", None)
        return None
    if not TOKEN_SHAPE.fullmatch(token) or token[0] in "'\"" or token[-1] in "'\"":
        raise InputError(
            f"HF_TOKEN: found {len(token)} characters with white space, quotes or signs that no "
            "token has, expected one word such as hf_ and letters and digits"
        )
    os.environ["HF_TOKEN"] = token
    return token
