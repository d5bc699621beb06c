"""Make the table of languages (zagreus/languages.csv) from datatrove's table.

    resources/venvs/data-*/bin/python -P scripts/setup/languages.py

A row per language: ISO 639-3 code, ISO 639-1 code where there is one, English name, FineWeb-2 name
(code and script). datatrove's table stands in the data image alone, and every image and the host
ask for languages.
"""

from __future__ import annotations

import csv
import io
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from datatrove.utils._import_utils import ASSETS_PATH

from zagreus.errors import run

TABLE = Path(__file__).parents[2] / "zagreus" / "languages.csv"
COLUMNS = ("code", "two", "name", "fineweb2")
# ISO 639-1 has them, and datatrove's table has not (ISO 639-3 reference names; scripts of ISO
# 15924).
ADDED = (
    ("aar", "aa", "Afar", "aar_Latn"),
    ("ave", "ae", "Avestan", "ave_Avst"),
    ("iii", "ii", "Sichuan Yi", "iii_Yiii"),
    ("nau", "na", "Nauru", "nau_Latn"),
    ("pli", "pi", "Pali", "pli_Deva"),
    ("tgl", "tl", "Tagalog", "tgl_Latn"),
)


def table() -> str:
    """Return the table's text."""
    with open(
        Path(ASSETS_PATH) / "tokenizer_assignment.csv", encoding="utf-8", newline=""
    ) as opened:
        known = {row["code_3"]: row for row in csv.DictReader(opened) if _is_used(row)}
    rows = [
        (code, row["code_1"], _name(row["name"]), f"{code}_{row['script']}")
        for code, row in known.items()
    ]
    rows += [row for row in ADDED if row[0] not in known]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(sorted(rows))
    return text.getvalue()


def write_table(path: Path) -> None:
    """Write the table of languages."""
    path.write_text(table(), encoding="utf-8")


def _is_used(row: dict[str, str]) -> bool:
    """Return whether a row of datatrove's table is a language's own, with the script in which it is
    usually written.
    """
    return row["default_script"] == "TRUE" and len(row["code_3"]) == 3 and bool(row["name"])


def _name(name: str) -> str:
    """Return a name without years and without what tells a macrolanguage from its part."""
    return re.sub(r" \((\d.*|macrolanguage|individual language)\)$", "", name)


if __name__ == "__main__":
    run(lambda: write_table(TABLE))
