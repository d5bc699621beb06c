"""Items of others: what is read, what is counted, what is refused; and a sixth language."""

from __future__ import annotations

import csv
import gzip
import json
import os
import random
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from hub_server import COMMIT, serve

from scripts.setup.languages import table
from zagreus.errors import InputError
from zagreus.evaluation.choice import translation_items
from zagreus.evaluation.files import agreeing, check_lost, read_rows
from zagreus.evaluation.instructions import instruction_items
from zagreus.evaluation.items import write_items
from zagreus.languages import (
    TABLE,
    find_language,
    hub_codes,
    language_name,
    languages,
    named_languages,
)
from zagreus.manifest import write_manifest

ROW = {"question": "Che cosa scalda?", "answer": 1, "choices": ["Il sole", "La luna"]}
LINE = json.dumps(ROW)


def lines(*rows: str) -> bytes:
    return ("\n".join(rows) + "\n").encode()


def parquet(table: pyarrow.Table, folder: Path) -> bytes:
    pyarrow.parquet.write_table(table, folder / "made.parquet", write_page_checksum=True)
    return (folder / "made.parquet").read_bytes()


@pytest.mark.parametrize(
    ("content", "rows", "lost"),
    [
        (lines(LINE, LINE), 2, {}),
        (b"\xef\xbb\xbf" + lines(LINE, "", LINE), 2, {}),
        (json.dumps([ROW, ROW]).encode(), 2, {}),
        (json.dumps([ROW, ROW], indent=2).encode(), 2, {}),
        (gzip.compress(lines(LINE, LINE)), 2, {}),
        (LINE.encode("utf-16"), 1, {}),
        (lines(LINE, json.dumps({**ROW, "question": "a" * 3_000_000})), 2, {}),
        (lines(LINE, json.dumps({**ROW, "question": "a\u2028b"}, ensure_ascii=False)), 2, {}),
        (lines(LINE, "null", LINE), 2, {"not an object": 1}),
        (lines(LINE, "3", '"a"', "[1]"), 1, {"not an object": 3}),
        (lines(LINE, '{"question": "\\ud800"}'), 1, {"lone surrogate": 1}),
        (lines(LINE, '{"question": NaN}'), 1, {"NaN or infinity": 1}),
    ],
)
def test_files_that_are_read(
    tmp_path: Path, content: bytes, rows: int, lost: dict[str, int]
) -> None:
    (tmp_path / "a").write_bytes(content)
    counted: Counter[str] = Counter()
    read = read_rows(tmp_path / "a", "a", counted)
    assert len(read) == rows and counted == lost
    assert all(row["question"] for row in read)


def test_an_id_is_the_row_whatever_was_lost_before(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(
        lines(LINE, "null", LINE, json.dumps({**ROW, "id": None}), json.dumps({**ROW, "id": "x"}))
    )
    assert [row["id"] for row in read_rows(tmp_path / "a", "a", Counter())] == ["0", "2", "3", "x"]


def whole(folder: Path) -> bytes:
    return parquet(pyarrow.Table.from_pylist([ROW] * 100), folder)


def flipped(folder: Path) -> bytes:
    content = bytearray(
        parquet(pyarrow.table({"question": [str(number) * 9 for number in range(900)]}), folder)
    )
    content[200] ^= 0xFF
    return bytes(content)


def surrogate(folder: Path) -> bytes:
    wrong = pyarrow.StringArray.from_buffers(
        1, pyarrow.py_buffer(b"\x00\0\0\0\x03\0\0\0"), pyarrow.py_buffer(b"\xed\xa0\x80")
    )
    return parquet(pyarrow.table({"question": wrong}), folder)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: b"", "a: found an empty file"),
        (lambda folder: b"\n \n", "found no row"),
        (lambda folder: b"[]", "found no row"),
        (lambda folder: b"question,answer\nWhat?,A\n", "line 1, column 1: found no valid JSON"),
        (lambda folder: b"<html>no</html>", "a page in HTML"),
        (lambda folder: lines(LINE, LINE[:20]), "line 2"),
        (lambda folder: gzip.compress(lines(*[LINE] * 99))[:-20], "cut off or damaged"),
        (lambda folder: whole(folder)[:-50], "not a whole parquet file"),
        (lambda folder: b"PAR1 and no more", "not a whole parquet file"),
        (flipped, "not a whole parquet file"),
        (surrogate, "not a whole parquet file"),
        (
            lambda folder: parquet(
                pyarrow.Table.from_arrays([pyarrow.array(["a"])] * 2, ["q", "q"]), folder
            ),
            "two columns 'q'",
        ),
        (
            lambda folder: parquet(pyarrow.table({"q": pyarrow.array([], "string")}), folder),
            "found no row",
        ),
    ],
)
def test_files_that_are_refused(tmp_path: Path, make: Any, message: str) -> None:
    (tmp_path / "a").write_bytes(make(tmp_path))
    with pytest.raises(InputError, match=message) as caught:
        read_rows(tmp_path / "a", "a", Counter())
    assert str(caught.value).startswith("a") and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"answer": "1"}, "column 'answer': text where most rows have a whole number"),
        ({"answer": 1.5}, "column 'answer': a number where most rows have a whole number"),
        ({"answer": 2**70}, "column 'answer': a whole number beyond 64 bits where most"),
        ({"answer": [1]}, "column 'answer': a list where most"),
        ({"question": {"a": 1}}, "column 'question': a mapping where most"),
        ({"choices": "Il sole"}, "column 'choices': text where most rows have a list"),
        (
            {"choices": ["Il sole", 3]},
            r"column 'choices\[\]': values of several kinds where most rows have text",
        ),
        ({"choices": {"text": []}}, "column 'choices': a mapping where most rows have a list"),
    ],
)
def test_a_value_of_another_kind(tmp_path: Path, change: dict, reason: str) -> None:
    rows = [{**ROW, "id": str(number)} for number in range(4)]
    lost: dict[str, Counter[str]] = {"test": Counter(), "dev": Counter()}
    kept = agreeing({"test": [*rows[:3], {**rows[3], **change}], "dev": rows[:1]}, lost)
    assert [row["id"] for row in kept["test"]] == ["0", "1", "2"] and len(kept["dev"]) == 1
    ((message, count),) = lost["test"].items()
    assert count == 1 and message.startswith(reason.replace("\\", ""))
    with pytest.raises(
        InputError,
        match=(
            f"a: 1 of 4 rows of the split 'test' cannot be used .1 {reason}.*expected at most 0.01"
        ),
    ):
        check_lost("a", "test", lost["test"], 4, 0.01)
    write_items(tmp_path / "a.parquet", kept)


def test_what_agrees(tmp_path: Path) -> None:
    """Null agrees with all, a whole number with numbers.

    A column that the first split lacks is kept.
    """
    test = [{"id": "0", "a": None, "b": 1.5}, {"id": "1", "a": "x", "b": 2}, {"id": "2", "b": 2.5}]
    dev = [{"id": "3", "a": "y", "b": 1, "hint": {"of": ["z"]}}]
    lost: dict[str, Counter[str]] = {"test": Counter(), "dev": Counter()}
    write_items(tmp_path / "a.parquet", agreeing({"test": test, "dev": dev}, lost))
    assert not lost["test"] and not lost["dev"]
    rows = pyarrow.parquet.read_table(tmp_path / "a.parquet").to_pylist()
    assert (
        [row["b"] for row in rows] == [1.5, 2, 2.5, 1]
        and rows[3]["hint"] == {"of": ["z"]}
        and rows[0]["hint"] is None
    )


def test_random_values_never_end_in_an_exception(tmp_path: Path) -> None:
    draw = random.Random(5)

    def value(depth: int = 0) -> Any:
        kinds = [None, True, 0, -1, 2**63, 2**70, 1.5, "", "é\u2028", "x", []]
        if depth < 3 and draw.random() < 0.4:
            return draw.choice(
                [[value(depth + 1) for _ in range(draw.randrange(3))], {"k": value(depth + 1)}]
            )
        return draw.choice(kinds)

    for attempt in range(150):
        rows = [
            {draw.choice("abc"): value() for _ in range(3)} for _ in range(draw.randrange(1, 9))
        ]
        (tmp_path / "a").write_bytes(lines(*map(json.dumps, rows)))
        lost: dict[str, Counter[str]] = {"test": Counter()}
        kept = agreeing({"test": read_rows(tmp_path / "a", "a", lost["test"])}, lost)
        assert len(kept["test"]) + sum(lost["test"].values()) == len(rows)
        if kept["test"]:
            write_items(tmp_path / f"{attempt}.parquet", kept)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    folder = tmp_path / "hub"
    folder.mkdir()
    server, _ = serve(folder, "token")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def fetch(
    output: Path, url: str, files: dict[str, str], **other: Any
) -> subprocess.CompletedProcess[str]:
    entry = {
        "kind": "huggingface",
        "language": "deu",
        "repo": "owner/open",
        "revision": "main",
        "files": files,
        **other,
    }
    command = [
        sys.executable,
        "-P",
        "scripts/fetch_evaluation.py",
        "--name",
        "web",
        "--output",
        str(output),
        "--entry",
        json.dumps(entry),
    ]
    environment = {
        **os.environ,
        "HF_ENDPOINT": url,
        "HF_HOME": str(output.parent / "home"),
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
    }
    environment.pop("HF_TOKEN", None)
    return subprocess.run(command, capture_output=True, text=True, env=environment)


def test_items_of_the_hub_are_counted(hub: tuple[Path, str], tmp_path: Path) -> None:
    folder, url = hub
    (folder / "test.jsonl").write_bytes(lines(LINE, "null", *[LINE] * 2))
    pyarrow.parquet.write_table(
        pyarrow.Table.from_pylist([{**ROW, "hint": "warm"}]), folder / "dev.json"
    )
    output, files = tmp_path / "out" / "web.parquet", {"test": "test.jsonl", "dev": "dev.json"}
    done = fetch(output, url, files)
    assert done.returncode == 2 and not output.exists()
    problem = (
        "error: owner/open: 1 of 4 rows of the split 'test' cannot be used (1 not an "
        "object), expected at most 0.01 of them ('max_lost_rows')"
    )
    assert done.stderr.strip().splitlines()[-1] == problem
    done = fetch(output, url, files, max_lost_rows=0.25)
    assert done.returncode == 0, done.stderr
    manifest = json.loads(output.with_suffix(".json").read_text())
    assert (
        manifest["rows_lost"] == {"test": {"not an object": 1}, "dev": {}}
        and manifest["commit"] == COMMIT
    )
    rows = pyarrow.parquet.read_table(output).to_pylist()
    assert [(row["split"], row["hint"]) for row in rows] == [("test", None)] * 3 + [("dev", "warm")]


def test_no_network_and_unknown_languages_are_one_line(tmp_path: Path) -> None:
    output = tmp_path / "out" / "web.parquet"
    for url, other, message in (
        ("http://127.0.0.1:9", {}, "owner/open at revision main, a.jsonl: "),
        ("http://no-such-host.invalid", {}, "owner/open at revision main, a.jsonl: "),
        (
            "http://127.0.0.1:9",
            {"language": "de"},
            "unknown language 'de', expected an ISO 639-3 code such as 'deu'; did you mean 'deu'",
        ),
    ):
        done = fetch(output, url, {"test": "a.jsonl"}, **other)
        assert done.returncode == 2 and not output.exists()
        assert message in done.stderr.splitlines()[-1] and "Traceback" not in done.stderr


def chat(folder: Path, *rows: tuple[str, list[dict]]) -> Path:
    text = "".join(
        json.dumps({"id": identity, "conversation": turns}, ensure_ascii=False) + "\n"
        for identity, turns in rows
    )
    (folder / "chat.heldout.jsonl").write_text(text, encoding="utf-8")
    write_manifest(folder / "chat.json", kind="chat", name="chat")
    return folder / "chat.json"


def turns(question: str, answer: str = "Ja.") -> list[dict]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def test_german_conversations(tmp_path: Path) -> None:
    """Rows of another language, whatever it is, are no items.

    Nor are rows without a language beside such with one.
    """
    rows = [
        ("german:1", "Warm?"),
        ("de:2", "Kalt?"),
        ("deu:3", "Laut\u2028leise?"),
        ("english:4", "Warm?!"),
        ("nl:5", "Warm."),
        ("row:6", "?"),
    ]
    manifest = chat(
        tmp_path,
        *((identity, turns(question)) for identity, question in rows),
        ("de:7", turns("Warm?", "Nein.")),
    )
    left_out: Counter[str] = Counter()
    items = instruction_items([manifest], "answers", "deu", left_out)
    assert [item["id"] for item in items] == ["german:1", "de:2", "deu:3"] and items[0][
        "language"
    ] == "deu"
    assert +left_out == {
        "in another language": 2,
        "id without a language": 1,
        "the same question again": 1,
    }
    assert [item["id"] for item in instruction_items([manifest], "answers", "eng")] == ["english:4"]
    with pytest.raises(
        InputError,
        match=(
            "no row held out in 'ita' of the form 'answers' .6 rows: in another language|6 rows"
        ),
    ):
        instruction_items([manifest], "answers", "ita")
    with pytest.raises(InputError, match="unknown language 'ger'"):
        instruction_items([manifest], "answers", "ger")


def test_conversations_without_a_language(tmp_path: Path) -> None:
    manifest = chat(
        tmp_path,
        ("ab12/1", turns("Warm?")),
        ("row:2", turns("Kalt?")),
        ("x:3", [{"role": "assistant", "content": "Ja."}]),
    )
    left_out: Counter[str] = Counter()
    assert len(instruction_items([manifest], "answers", "deu", left_out)) == 2
    assert left_out["no question before the answer"] == 1


def test_the_table_of_languages() -> None:
    assert TABLE.read_text(encoding="utf-8") == table(), "run scripts/setup/languages.py"
    assert (find_language("deu").two, find_language("deu").name, find_language("deu").fineweb2) == (
        "de",
        "German",
        "deu_Latn",
    )
    assert (
        len({language.two for language in languages().values() if language.two}) >= 184
    )  # ISO 639-1 has 183, and `sh`
    assert all(
        len(language.code) == 3 and language.fineweb2.startswith(f"{language.code}_")
        for language in languages().values()
    )
    assert [language_name(code) for code in ("deu", "eng", "code", "zzz")] == [
        "German",
        "English",
        "Code",
        "zzz",
    ]
    assert hub_codes(["eng", "deu", "code", "fil", "deu", "en"]) == ["en", "de", "fil"]
    assert named_languages("German") == named_languages("de") == {"deu"}
    assert (
        named_languages("zh") >= {"zho", "cmn"}
        and not named_languages("row")
        and not named_languages("")
    )
    with pytest.raises(InputError, match="unknown language 'Germann'.*did you mean 'deu' .German."):
        find_language("Germann")
    with open(TABLE, encoding="utf-8", newline="") as opened:
        assert len(list(csv.DictReader(opened))) == len(languages())


def test_a_translation_needs_two_sources() -> None:
    with pytest.raises(InputError, match="x: 1 sources, expected two"):
        translation_items([[]], None, "x")
