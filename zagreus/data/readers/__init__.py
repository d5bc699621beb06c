"""Readers: how documents are read out of a wheel.

A reader takes the opened wheel and its options as keyword arguments, and yields `(key, text)`: the
key names the document within the source, independently of the language where sources are aligned.
"""

from __future__ import annotations

import inspect
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from zagreus.data.readers.bible import bible
from zagreus.data.readers.homeassistant import homeassistant_strings, python_code
from zagreus.data.readers.ovos import recipes, wiki_summaries
from zagreus.errors import InputError

READERS: dict[str, Callable[..., Iterator[tuple[str, str]]]] = {
    "bible": bible,
    "homeassistant_strings": homeassistant_strings,
    "python_code": python_code,
    "recipes": recipes,
    "wiki_summaries": wiki_summaries,
}


def read_wheel(wheel: Path, reader: str, options: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the `(key, text)` of a wheel's documents.

    Args:
        wheel: the wheel's file.
        reader: a name in `READERS`.
        options: the reader's keyword arguments.

    Raises:
        InputError: unknown reader, unknown or missing option, a file that is no wheel or lacks what
            the reader reads.
    """
    if reader not in READERS:
        raise InputError(f"unknown reader '{reader}', expected one of {', '.join(sorted(READERS))}")
    known = [name for name in inspect.signature(READERS[reader]).parameters if name != "archive"]
    if sorted(options) != sorted(known):
        raise InputError(f"reader '{reader}': options {sorted(options)}, expected {sorted(known)}")
    try:
        with zipfile.ZipFile(wheel) as archive:
            yield from READERS[reader](archive, **options)
    except (zipfile.BadZipFile, KeyError) as error:
        raise InputError(
            f"{wheel}: not a wheel that reader '{reader}' can read ({error})"
        ) from None
