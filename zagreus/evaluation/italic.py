"""ITALIC's questions (Crisp-Unimib/ITALIC) as recipes/evaluate/italic.yaml asks them."""

from __future__ import annotations

from typing import Any

import datasets


def prepare(rows: datasets.Dataset) -> datasets.Dataset:
    """Return the questions with `letters`, `listing` and `gold`.

    `letters` are the choices' letters, `listing` has a choice a line, `gold` is the place of the
    right letter. Raise `ValueError` where the answer is none of the letters.
    """
    return rows.map(_prepared)


def _prepared(row: dict[str, Any]) -> dict[str, Any]:
    choices = [choice for option in row["options"] for choice in _named(option)]
    letters = [letter for letter, _ in choices]
    return {
        "letters": letters,
        "listing": "\n".join(f"{letter}. {text.strip()}" for letter, text in choices),
        "gold": letters.index(row["answer"].strip()),
    }


def _named(option: dict[str, str | None]) -> list[tuple[str, str]]:
    """Return the letter and the text of an option, `{"B": "text"}`.

    A parquet file has all letters in every option, those of the others as null.
    """
    return [(letter, text) for letter, text in option.items() if text is not None]
