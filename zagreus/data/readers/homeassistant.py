"""Interface strings and Python source, from the package `homeassistant`."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from itertools import groupby
from pathlib import PurePosixPath
from typing import Any

from zagreus.errors import InputError

# The strings that are read: those that all of these languages have. Line n of a component's
# document is the same string in every language.
ALIGNED = ("en", "es", "fr", "it", "pt-BR")


def homeassistant_strings(archive: zipfile.ZipFile, language: str) -> Iterator[tuple[str, str]]:
    """Yield the interface strings of each component as a document, one string a line.

    The key is the component's name. A string whose English text stood in an earlier component is
    left out, in every language alike: a few hundred set phrases would otherwise fill the text, and
    be on both sides of the held-out line.

    Args:
        archive: the wheel.
        language: a code of the package's files (`it`, `de`, `pt-BR`) that has all of the strings.

    Raises:
        InputError: a language that the package lacks, or that lacks some of the strings.
    """
    strings = {name: _strings(archive, name) for name in {*ALIGNED, language}}
    seen: set[str] = set()
    kept = []
    for key in sorted(strings["en"]):
        english = strings["en"][key]
        if english and english not in seen and all(strings[name].get(key) for name in ALIGNED):
            seen.add(english)
            kept.append(key)
    translated = sum(bool(strings[language].get(key)) for key in kept)
    if translated < len(kept):
        raise InputError(
            f"reader 'homeassistant_strings': language '{language}' has {translated:,} of the "
            f"{len(kept):,} strings, expected a language that has all of them, as "
            f"{', '.join(ALIGNED)} and de"
        )
    for component, keys in groupby(kept, key=lambda key: key[0]):
        yield component, "\n".join(strings[language][key] for key in keys)


def _strings(archive: zipfile.ZipFile, language: str) -> dict[tuple[str, str], str]:
    """Return `{(component, path of the key): string}`; a string's own line breaks become spaces."""
    strings = {}
    for name in archive.namelist():
        parts = PurePosixPath(name).parts
        # homeassistant/components/sun/translations/it.json; a platform's own file is moon.sensor:
        # sensor.it.json
        if (
            parts[:2] != ("homeassistant", "components")
            or len(parts) != 5
            or parts[3] != "translations"
        ):
            continue
        platform, _, file_language = parts[4].removesuffix(".json").rpartition(".")
        if file_language == language:
            component = f"{parts[2]}.{platform}" if platform else parts[2]
            for path, text in _leaves(json.loads(archive.read(name))):
                strings[component, path] = " ".join(text.split())
    return strings


def _leaves(node: dict[str, Any], path: str = "") -> Iterator[tuple[str, str]]:
    for key, value in node.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value


def python_code(archive: zipfile.ZipFile) -> Iterator[tuple[str, str]]:
    """Yield every Python file of the wheel; the key is its path."""
    for name in sorted(archive.namelist()):
        if name.endswith(".py"):
            yield name, archive.read(name).decode("utf-8")
