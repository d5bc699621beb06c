"""Needles: where the sentence stands, how long the prompts are, and that only it has the answer."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from pathlib import Path

import pyarrow.parquet
import pytest
from test_evaluation_data import fetch, line

from zagreus.data import tokenizer
from zagreus.errors import InputError
from zagreus.evaluation.choice import units
from zagreus.evaluation.needle import NEEDLES, needle_items
from zagreus.manifest import write_manifest

ENTRY = {"language": "ita", "lengths": [100, 300], "depths": [0, 50, 100], "items": 4}
LETTERS = "bcdfglmnprst"


def word(chance: random.Random) -> str:
    return "".join(chance.choice(LETTERS) + chance.choice("aeio") for _ in range(3))


def documents(count: int = 12, seed: int = 0) -> list[dict]:
    chance = random.Random(seed)
    rare = [word(chance) for _ in range(60)]
    return [
        {
            "id": f"ita_test:{number:03d}",
            "text": "\n".join(f"{line(chance)[:-1]} {chance.choice(rare)}." for _ in range(8)),
        }
        for number in range(count)
    ]


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    built = tokenizer.train([row["text"] for row in documents(40, seed=1)], 400)
    facts = tokenizer.save(built, folder)
    outputs = [folder / "tokenizer.json", folder / "tokenizer_config.json"]
    write_manifest(folder / "manifest.json", kind="tokenizer", name="t", outputs=outputs, **facts)
    return folder / "manifest.json"


def test_the_needle_alone_has_the_answer_and_stands_at_its_depth(manifest: Path) -> None:
    rows = documents()
    items = needle_items(rows, manifest, ENTRY, "needle")
    sentences = {unit for row in rows for unit in units(row["text"])[0]}
    before, after = NEEDLES["ita"].split("{key}")[0], NEEDLES["ita"].split("{key}")[1]
    for item in items:
        *lines, question = item["query"].split("\n")
        (needle,) = (number for number, text in enumerate(lines) if text not in sentences)
        key, value = re.fullmatch(r"(\S+) è (\S+)\.", lines[needle].removeprefix(before)).groups()
        assert question == f"{before}{key} è" and after == " è {value}."
        assert item["choices"][item["gold"]] == f" {value}"
        others = " ".join(text for number, text in enumerate(lines) if number != needle).lower()
        assert not any(choice.strip() in others.split() for choice in item["choices"])
        assert key not in others.split()
        assert needle == round(item["depth"] / 100 * (len(lines) - 1))
    assert Counter(item["gold"] for item in items) == dict.fromkeys(range(4), 6)
    cells = Counter((item["length"], item["depth"]) for item in items)
    assert cells == {(length, depth): 4 for length in (100, 300) for depth in (0, 50, 100)}
    assert len({item["query"] for item in items}) == len(items) == 24


def test_prompts_fill_their_length(manifest: Path) -> None:
    encode = tokenizer.Tokenizer.from_file(str(manifest.with_name("tokenizer.json"))).encode
    for item in needle_items(documents(), manifest, ENTRY, "needle"):
        # With the begin token.
        longest = max(len(encode(item["query"] + choice).ids) for choice in item["choices"])
        assert 0 <= item["length"] - longest < 60


def test_the_same_text_gives_the_same_items(manifest: Path) -> None:
    once = needle_items(documents(), manifest, ENTRY, "needle")
    assert needle_items(list(reversed(documents())), manifest, ENTRY, "needle") == once


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"language": "fin"}, "language 'fin' has no needle, expected one of deu, eng"),
        ({"lengths": [100_000]}, "tokens, expected more than 100,000; raise the sources"),
    ],
)
def test_what_cannot_be_made_is_refused(change: dict, message: str, manifest: Path) -> None:
    with pytest.raises(InputError, match=message):
        needle_items(documents(), manifest, ENTRY | change, "needle")


def test_the_script_reads_sources_and_the_tokenizer(manifest: Path, tmp_path: Path) -> None:
    source = tmp_path / "sources/ita_test/00000.json"
    source.parent.mkdir(parents=True)
    for name in ("00000.heldout.parquet", "00000.parquet"):
        table = pyarrow.Table.from_pylist(documents())
        pyarrow.parquet.write_table(table, source.with_name(name))
    write_manifest(source, kind="source", name="ita_test/00000")
    entry = {"kind": "needle", "sources": ["ita_test"], **ENTRY}
    output = tmp_path / "needle.parquet"
    done = fetch("needle", entry, [source, manifest], output)
    assert done.returncode == 0, done.stderr
    rows = pyarrow.parquet.read_table(output).to_pylist()
    assert len(rows) == 24 and {row["split"] for row in rows} == {"test"}
    written = json.loads(output.with_suffix(".json").read_text())
    assert written["items"] == {"test": 24}
    assert [Path(item["path"]).name for item in written["inputs"]] == [
        "00000.json",
        "manifest.json",
    ]
