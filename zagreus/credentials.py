"""The hub's token, read in one place; and secrets masked in everything that a program says."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote

from zagreus.errors import InputError

# The order is huggingface_hub's: the older name counts where the newer one says nothing.
TOKEN_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
# Printable ASCII without spaces, quotes and backslashes. The hub's own tokens are `hf_` with
# letters and digits; mirrors have others, and RFC 6750 allows these signs.
SHAPE = re.compile(r"[!#-&(-\[\]-_a-~]+")
LONGEST = 4096  # characters; servers refuse longer headers
MASKED = "[secret]"

_PREFIXES = ("", "APPTAINERENV_", "SINGULARITYENV_")
_SHORTEST = 6  # characters of a part of a token that is masked: shorter ones are ordinary words
_OTHERS = ("WANDB_API_KEY",)
_FORMS = (
    (re.compile(r"(//)[^\s/'\"<>]*@"), rf"\1{MASKED}@"),  # user:password@ in an address
    (re.compile(r"(?i)\b(bearer|basic)\s+[^\s'\",;]{4,}"), rf"\1 {MASKED}"),
    (re.compile(r"\bhf_[A-Za-z0-9]{16,}"), MASKED),
    (
        re.compile(
            r"(?i)([?&](?:x-amz-[\w-]*|signature|sig|policy|key-pair-id|token|access_token)=)[^&\s'\"<>]+"
        ),
        rf"\1{MASKED}",
    ),  # signed addresses
)
_seen: set[str] = set()


def read_token(environment: Mapping[str, str] = os.environ) -> str | None:
    """Return the hub's token without the white space around it; None where none is set.

    It comes from `HF_TOKEN`, from `HUGGING_FACE_HUB_TOKEN`, or from the file in which
    huggingface_hub keeps the token of a login (`HF_TOKEN_PATH`). An empty one counts as not set.

    Raises:
        InputError: no token has this shape. The message does not show the token.
    """
    for name in TOKEN_VARIABLES:
        if token := _stripped(environment.get(name, "")):
            return _checked(token, name)
    if environment.get("HF_HUB_DISABLE_IMPLICIT_TOKEN", "").upper() in ("1", "ON", "YES", "TRUE"):
        return None
    path = _token_file(environment)
    try:
        content = path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        if "HF_TOKEN_PATH" in environment and not isinstance(error, FileNotFoundError):
            raise InputError(f"HF_TOKEN_PATH: {path} cannot be read ({error.strerror})") from None
        return None
    token = _stripped(content)
    return _checked(token, f"the token file {path}") if token else None


def use_token() -> str | None:
    """Return the token, and put it where every library of this process finds it: `HF_TOKEN`."""
    token = read_token()
    for name in TOKEN_VARIABLES:
        os.environ.pop(name, None)
    if token is not None:
        os.environ["HF_TOKEN"] = token
    return token


def split_login(address: str) -> tuple[str, tuple[str, str] | None]:
    """Return an address without the user name and password in it, and those."""
    match = re.fullmatch(r"([a-z]+://)([^/@]*(?:@[^/@]*)*)@(.*)", address, re.IGNORECASE)
    if match is None:
        return address, None
    user, _, password = match[2].partition(":")
    _seen.update(secret for secret in (password, unquote(password)) if len(secret) >= 4)
    return match[1] + match[3], (unquote(user), unquote(password))


def mask(text: str, environment: Mapping[str, str] = os.environ) -> str:
    """Return the text without tokens, passwords in addresses and signatures of addresses."""
    for secret in sorted(_seen | _known(environment), key=len, reverse=True):
        text = text.replace(secret, MASKED)
    for form, replacement in _FORMS:
        text = form.sub(replacement, text)
    return text


def _token_file(environment: Mapping[str, str]) -> Path:
    """Return where huggingface_hub keeps the token of a login."""
    if path := environment.get("HF_TOKEN_PATH"):
        return Path(path).expanduser()
    cache = environment.get("XDG_CACHE_HOME") or str(
        Path(environment.get("HOME", "/nonexistent")) / ".cache"
    )
    return Path(environment.get("HF_HOME") or f"{cache}/huggingface").expanduser() / "token"


def _stripped(token: str) -> str:
    """Return the token without white space and byte order marks around it."""
    _seen.update(_parts(token))
    return token.strip().strip("\ufeff\u200b").strip()


def _checked(token: str, where: str) -> str:
    if len(token) > LONGEST:
        raise InputError(f"{where}: {len(token)} characters, a token has at most {LONGEST}")
    whole = SHAPE.match(token)
    if whole is None or whole.end() < len(token):
        position = whole.end() if whole else 0
        raise InputError(
            f"{where}: {_name(token[position])} at character {position + 1} of {len(token)}; "
            "expected a token: letters, digits and signs, without spaces or quotes"
        )
    return token


def _name(character: str) -> str:
    if character.isspace():
        return "a space or the end of a line"
    if character in "\"'`":
        return "a quote"
    return (
        "a character that is not plain ASCII"
        if not character.isascii()
        else "a sign that no token has"
    )


def _known(environment: Mapping[str, str]) -> set[str]:
    """Return the secrets that the environment holds."""
    secrets: set[str] = set()
    for name in (*TOKEN_VARIABLES, *_OTHERS):
        for prefix in _PREFIXES:
            secrets |= _parts(environment.get(prefix + name, ""))
    for value in environment.values():
        for password in re.findall(r"//[^\s/@:]*:([^\s/]*)@", value):
            secrets |= {secret for secret in (password, unquote(password)) if len(secret) >= 4}
    return secrets


def _parts(token: str) -> set[str]:
    """Return what is masked of a token.

    The whole, and its pieces where it was folded or escaped.
    """
    whole = {form for form in (token, token.strip(), repr(token)[1:-1]) if len(form) >= _SHORTEST}
    return whole | {
        piece for piece in re.findall(r"[A-Za-z0-9_-]+", token) if len(piece) >= _SHORTEST
    }
