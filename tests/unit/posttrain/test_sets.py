"""Several data sets a stage: filters, weights, repeats."""

import json
from collections import Counter
from pathlib import Path

import pytest

from zagreus.errors import InputError
from zagreus.posttraining.sets import mix_rows, set_problems


def write(path: Path, language: str, count: int) -> Path:
    rows = [
        {
            "id": f"{language}{number}/0",
            "conversation": [{"role": "user", "content": str(number)}],
            "columns": {"score": number / 10, "language": language, "checked": number % 2 == 0},
        }
        for number in range(count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    return {name: write(tmp_path / f"{name}.jsonl", name, 10) for name in ("en", "it")}


CASES = {
    "all": ([{"set": "en"}], [10]),
    "score, and all": ([{"set": "en", "where": {"score": {"min": 0.6}}}, {"set": "it"}], [4, 10]),
    "a range": ([{"set": "en", "where": {"score": {"min": 0.2, "max": 0.4}}}], [3]),
    "a value": ([{"set": "en", "where": {"score": 0}}], [1]),
    "values": ([{"set": "en", "where": {"language": ["en", "fr"], "score": [0.1, 0.2]}}], [2]),
    "truth is no number": ([{"set": "en", "where": {"checked": True}}], [5]),
    "repeated": ([{"set": "en", "repeat": 4}, {"set": "it"}], [40, 10]),
    "weights": ([{"set": "en", "weight": 1}, {"set": "it", "weight": 3}], [3, 10]),
    "equal weights": ([{"set": "en", "weight": 1 / 3}, {"set": "it", "weight": 1 / 3}], [10, 10]),
    "weights of filtered rows": (
        [
            {"set": "en", "weight": 0.5, "where": {"score": {"min": 0.8}}},
            {"set": "it", "weight": 0.5},
        ],
        [2, 2],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_taken(tmp_path: Path, files: dict[str, Path], name: str) -> None:
    sets, expected = CASES[name]
    counts = mix_rows(files, sets, tmp_path / "mixed.jsonl")
    assert [entry["taken"] for entry in counts] == expected
    rows = [json.loads(line) for line in (tmp_path / "mixed.jsonl").read_text().splitlines()]
    assert len(rows) == sum(expected) and all(set(row) == {"id", "conversation"} for row in rows)
    times = Counter(row["id"] for row in rows)
    assert max(times.values()) == max(entry.get("repeat", 1) for entry in sets)
    again = tmp_path / "again.jsonl"
    mix_rows(files, sets, again)
    assert again.read_bytes() == (tmp_path / "mixed.jsonl").read_bytes()


MISTAKES = {
    "no such column": ({"lang": "en"}, "no column 'lang', only .*columns.keep"),
    "no row": ({"score": {"min": 2}}, "none of 10 rows of 'en' passes"),
    "no number": ({"language": {"min": 2}}, 'found "en", expected a number'),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_filters_that_cannot_be_meant(tmp_path: Path, files: dict[str, Path], name: str) -> None:
    where, message = MISTAKES[name]
    with pytest.raises(InputError, match=message):
        mix_rows(files, [{"set": "en", "where": where}], tmp_path / "mixed.jsonl")
    assert not (tmp_path / "mixed.jsonl").exists()


def test_problems_of_a_list() -> None:
    half = {"data": [{"set": "a", "weight": 1}, {"set": "b"}]}
    assert "expected all or none" in next(set_problems(half, {}))
    both = {"data": [{"set": "a", "weight": 1, "repeat": 2}]}
    assert "a weight and a repeat" in next(set_problems(both, {}))
    repeated = {"data": [{"set": "a", "repeat": 4}]}
    assert "val_set_size 0" in next(set_problems(repeated, {"val_set_size": 100}))
    assert not list(set_problems(repeated, {"val_set_size": 0}))
