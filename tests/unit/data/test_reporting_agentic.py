"""The cases of tool use: passes by category, model and language beside the published ones."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy
import pandas as pd
import pytest

from zagreus.errors import InputError
from zagreus.evaluation.agentic import CATEGORIES, agentic_items
from zagreus.evaluation.items import take, write_items
from zagreus.reporting.agentic import (
    agentic_table,
    measured_passes,
    published_numbers,
    read_published,
    side_by_side,
)
from zagreus.reporting.items import Answers
from zagreus.reporting.replication import CASES_TABLE, replication_table

REFERENCE = Path("reference")
FILE = REFERENCE / "nesso2/agentic_cases_100.json"
TASKS = {"agentic_eng": "agentic_eng", "agentic_ita": "agentic_ita", "other": "other"}
NO_SCORES = pd.DataFrame(
    columns=["model", "checkpoint", "task", "metric", "value", "stderr", "majority_baseline"]
)
# Categories that the model of these tests passes in a language, whole.
PASSED = {"eng": ["single", "obs"], "ita": ["single", "par_same", "multistep"]}


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The data sets of both languages with their manifests, as `fetch_evaluation` writes them."""
    folder = tmp_path_factory.mktemp("data")
    made = {}
    for language in ("eng", "ita"):
        name = f"agentic_{language}"
        items = take(agentic_items(FILE, language), None, name)
        write_items(folder / f"{name}.parquet", {"test": items})
        manifest = {
            "entry": {"kind": "agentic"},
            "language": language,
            "outputs": [{"path": str(folder / f"{name}.parquet")}],
        }
        categories = [item["category"] for item in items]
        made[name] = (SimpleNamespace(name=name, manifest=manifest), categories)
    return made


def answers(sets: dict[str, Any], limit: int | None = None) -> list[Answers]:
    made = []
    for name, (node, categories) in sets.items():
        passed = [float(one in PASSED[node.manifest["language"]]) for one in categories][:limit]
        rows = numpy.arange(len(passed))
        ones = numpy.ones(len(passed))
        key = ("nesso2-agentic", "sft", name)
        made.append(Answers(*key, "passed", True, rows, numpy.array(passed), ones))
        made.append(Answers(*key, "ends_turn", True, rows, ones, ones))
    made.append(Answers("nesso2-agentic", "sft", "other", "passed", True, rows, ones, ones))
    return made


def table_of(sets: dict[str, Any], limit: int | None = None) -> pd.DataFrame:
    lineage = SimpleNamespace(of_kind=lambda kind: [node for node, _ in sets.values()])
    return agentic_table(lineage, answers(sets, limit), TASKS, REFERENCE)  # type: ignore[arg-type]


def test_passes_by_category_and_language(sets: dict[str, Any]) -> None:
    table = table_of(sets)
    own = table[table["source"] == "run"].set_index("category")
    assert list(own.index) == [*CATEGORIES, "total"]
    assert own.loc["single", ["eng", "ita", "passed", "cases"]].tolist() == [5, 5, 10, 10]
    assert own.loc["par_same", ["eng", "ita", "passed", "cases"]].tolist() == [0, 5, 5, 10]
    assert own.loc["total", ["eng", "ita", "passed", "cases"]].tolist() == [10, 15, 25, 100]
    published = table[table["source"] == "published"].set_index(["model", "category"])
    assert published.loc[("Nesso2 v8", "total"), ["eng", "ita", "passed"]].tolist() == [33, 35, 68]
    assert published.loc[("Qwen3-0.6B", "total"), ["eng", "ita", "passed"]].tolist() == [38, 29, 67]
    totals = {model: published.loc[(model, "total"), "passed"] for model in ("Nesso2 v3",)}
    assert totals == {"Nesso2 v3": 61}
    page = side_by_side(table)
    assert page["columns"][0] == ("run", "nesso2-agentic", "sft") and len(page["columns"]) == 7
    assert [name for name, _ in page["rows"]] == [*CATEGORIES, "total"]
    assert page["rows"][0][1][0]["passed"] == 10
    assert side_by_side(table[table["source"] == "published"]) == {}


def test_published_passes_beside_ours_in_the_replication_table(sets: dict[str, Any]) -> None:
    checkpoints = {"nesso2-agentic": ["sft"]}
    made = replication_table(REFERENCE, NO_SCORES, checkpoints, table_of(sets))
    rows = made[made["table"] == CASES_TABLE].set_index(["row", "quantity"])
    assert len(rows) == 6 * 11 + 4
    single = rows.loc[("Nesso2 v8", "single")]
    assert (single["published"], single["ours"], single["status"]) == (9, 10, "differs")
    same = rows.loc[("Nesso2 v8", "par_same")]
    # Five of ten: the error of a count is 10 sqrt(0.5 0.5 / 9).
    assert same["stderr"] == pytest.approx(10 / 6) and same["standard_errors"] == -3
    assert rows.loc[("Nesso2 v8", "total"), "ours"] == 25
    assert rows.loc[("Nesso2 v8", "total_ita"), "ours"] == 15
    assert rows.loc[("Nesso2 v8", "total_eng"), "published"] == 33
    assert rows.loc[("Nesso2 v3", "single"), "status"] == "cannot be reproduced: private data"
    assert rows.loc[("Qwen3-0.6B", "single"), "status"] == "not run"
    for note in ("number of cases", "suite of cases"):
        assert note in rows.loc[("Qwen3-0.6B", "total"), "note"]


def test_a_part_of_the_cases_is_not_compared(sets: dict[str, Any]) -> None:
    table = table_of(sets, limit=20)
    of_run = table[table["source"] == "run"].set_index("category")
    assert of_run.loc["total", "cases"] == 40
    assert measured_passes(table, "nesso2-agentic", "sft", "total") is None
    assert measured_passes(table, "nesso2-agentic", "sft", "total_ita") is None
    assert measured_passes(table, "other", "sft", "single") is None


def test_the_published_numbers(tmp_path: Path) -> None:
    cases = read_published(REFERENCE)
    assert list(cases) == list(CATEGORIES)
    totals = {
        model: passed
        for model, quantity, passed in published_numbers(REFERENCE)
        if quantity == "total"
    }
    assert list(totals.values()) == [61, 67, 65, 61, 68, 67]
    with pytest.raises(InputError, match="no such file"):
        read_published(tmp_path)
