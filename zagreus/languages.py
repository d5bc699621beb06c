"""The one table of languages: codes and names, for every image and the host. Standard library only.

`zagreus/languages.csv` is made by scripts/setup/languages.py from the table of datatrove.
"""

from __future__ import annotations

import csv
import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from zagreus.errors import InputError

TABLE = Path(__file__).with_suffix(".csv")
CODE = "code"  # the configuration's word for programs


@dataclass(frozen=True, slots=True)
class Language:
    """One language.

    Attributes:
        code: ISO 639-3.
        two: ISO 639-1, empty where the language has none. A language and its standard form, as
            Chinese and Mandarin Chinese, have the same.
        name: in English.
        fineweb2: name of the language's part of FineWeb-2, code and script: `ita_Latn`.
    """

    code: str
    two: str
    name: str
    fineweb2: str


@cache
def languages() -> dict[str, Language]:
    """Return all languages by ISO 639-3 code."""
    with open(TABLE, encoding="utf-8", newline="") as opened:
        return {row["code"]: Language(**row) for row in csv.DictReader(opened)}


def find_language(code: str) -> Language:
    """Return the language of an ISO 639-3 code.

    Raises:
        InputError: no language has the code; the message names the code that may be meant.
    """
    table = languages()
    code = str(code)
    if code in table:
        return table[code]
    meant = next(
        (candidate for candidate in table.values() if code and code in names_of(candidate)), None
    )
    if meant is None:
        close = difflib.get_close_matches(
            code, [candidate.name for candidate in table.values()], n=1
        )
        meant = next(
            (candidate for candidate in table.values() if close and candidate.name == close[0]),
            None,
        )
    hint = f"; did you mean '{meant.code}' ({meant.name})?" if meant else ""
    raise InputError(f"unknown language '{code}', expected an ISO 639-3 code such as 'deu'{hint}")


def names_of(language: Language) -> set[str]:
    """Return what a language is called: its codes and its name, in lower case."""
    return {language.code, language.two, language.name.lower()} - {""}


def named_languages(word: str) -> set[str]:
    """Return the ISO 639-3 codes of the languages that a word names, in any case.

    A word is a name or a code. A three-letter code counts only for a language that has a
    two-letter code as well: of 1,900 codes many are words, such as `row` or `tag`. Languages with
    the same two-letter code count as one.
    """
    return _named().get(word.lower(), set())


@cache
def _named() -> dict[str, set[str]]:
    named: dict[str, set[str]] = {}
    for language in languages().values():
        for name in names_of(language) if language.two else {language.name.lower()}:
            same = [
                other.code
                for other in languages().values()
                if language.two and other.two == language.two
            ]
            named.setdefault(name, set()).update([language.code, *same])
    return named


def language_name(code: str) -> str:
    """Return the English name of a language for tables and figures.

    The code where none is known.
    """
    if code == CODE:
        return "Code"
    return languages()[code].name if code in languages() else code


def hub_codes(codes: Iterator[str] | list[str]) -> list[str]:
    """Return languages as a model card names them, each once.

    The hub takes ISO 639-1, and ISO 639-3 where a language has no shorter code. Programs are no
    language there.
    """
    known = languages()
    short_codes = [
        known[code].two or code if code in known else code for code in codes if code != CODE
    ]
    return list(dict.fromkeys(short_codes))
