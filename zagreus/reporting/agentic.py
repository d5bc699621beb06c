"""The 100 cases of tool use: passes by category, model and language, beside the published ones."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet

from zagreus.errors import InputError
from zagreus.reporting.items import Answers, Pairs
from zagreus.reporting.lineage import Lineage, Node

COLUMNS = ["source", "model", "checkpoint", "category", "eng", "ita", "passed", "cases"]
LANGUAGES = ("eng", "ita")
TOTAL = "total"
# Cases of a category, and of a language over all categories.
CASES, CASES_OF_A_LANGUAGE = 10, 50


def agentic_table(
    lineage: Lineage,
    answers: Iterable[Answers | Pairs],
    tasks: Mapping[str, str],
    reference: Path | str,
) -> pd.DataFrame:
    """Return the passes of every checkpoint by category, and the published ones: COLUMNS.

    Args:
        lineage: the run's manifests.
        answers: of every item.
        tasks: the data set of each task.
        reference: the folder of the published tables.

    Returns:
        `source` is `run` or `published`. `eng` and `ita` are the passes in a language, `passed` of
        both, `cases` how many were asked. A category without cases in a language has none there.
    """
    published = read_published(reference)
    order = [*published, TOTAL]
    sets = {
        node.name: node
        for node in lineage.of_kind("evaluation_data")
        if node.manifest.get("entry", {}).get("kind") == "agentic"
    }
    counts: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for answer in answers:
        data = sets.get(tasks.get(answer.task, ""))
        if data is None or answer.metric != "passed" or not isinstance(answer, Answers):
            continue
        categories, language = _categories(data), data.manifest["language"]
        rows = counts.setdefault((answer.model, answer.checkpoint), {})
        for item, passed in zip(answer.items, answer.numerators, strict=True):
            for category in (categories[int(item)], TOTAL):
                row = rows.setdefault(category, {"passed": 0, "cases": 0})
                row[language] = row.get(language, 0) + int(passed)
                row["passed"] += int(passed)
                row["cases"] += 1
    made: list[dict[str, Any]] = []
    for (model, checkpoint), rows in counts.items():
        label = {"source": "run", "model": model, "checkpoint": checkpoint}
        made += [label | {"category": name} | rows[name] for name in order if name in rows]
    made += _published_rows(published, Path(reference))
    frame = pd.DataFrame(made, columns=COLUMNS)
    return frame.astype(dict.fromkeys((*LANGUAGES, "passed", "cases"), "Int64"))


def read_published(reference: Path | str) -> dict[str, dict[str, int]]:
    """Return the published passes by category, then by model.

    Raises:
        InputError: there is no such file.
    """
    file = Path(reference) / "nesso2/published_cases.csv"
    if not file.is_file():
        raise InputError(f"{file}: no such file, expected the published passes by category")
    table = pd.read_csv(file).set_index("category")
    return {
        str(category): {str(model): int(passed) for model, passed in row.items()}
        for category, row in table.iterrows()
    }


def published_numbers(reference: Path | str) -> Iterator[tuple[str, str, int]]:
    """Yield each published number: model, category or `total` or `total_LANGUAGE`, passes."""
    for row in _published_rows(read_published(reference), Path(reference)):
        yield row["model"], row["category"], row["passed"]
        for language in LANGUAGES:
            if language in row:
                yield row["model"], f"{TOTAL}_{language}", row[language]


def measured_passes(
    table: pd.DataFrame, model: str | None, checkpoint: str | None, quantity: str
) -> tuple[float, float] | None:
    """Return the run's passes for a published number, with their standard error.

    None where the run did not ask all its cases.
    """
    category, language = quantity, ""
    if quantity.startswith(f"{TOTAL}_"):
        category, _, language = quantity.partition("_")
    rows = table[
        (table["source"] == "run")
        & (table["model"] == model)
        & (table["checkpoint"] == checkpoint)
        & (table["category"] == category)
    ]
    if rows.empty:
        return None
    row = rows.iloc[0]
    if row["cases"] != (CASES if category != TOTAL else 2 * CASES_OF_A_LANGUAGE):
        return None
    asked = CASES_OF_A_LANGUAGE if language in LANGUAGES else int(row["cases"])
    passed = int(row[language if language in LANGUAGES else "passed"])
    share = passed / asked
    return float(passed), asked * math.sqrt(share * (1 - share) / (asked - 1))


def side_by_side(table: pd.DataFrame) -> dict[str, Any]:
    """Return the table for the page: a column for each model, a line for each category.

    Empty where the run has no passes of its own.
    """
    if not (table["source"] == "run").any():
        return {}
    cells: dict[tuple[str, str, str], dict[str, dict[str, Any]]] = {}
    for row in table.astype(object).where(table.notna(), None).to_dict("records"):
        key = (row["source"], row["model"], row["checkpoint"] or "")
        cells.setdefault(key, {})[row["category"]] = row
    lines = list(dict.fromkeys(table["category"]))
    return {
        "columns": list(cells),
        "rows": [(name, [rows.get(name) for rows in cells.values()]) for name in lines],
    }


def _published_rows(
    published: Mapping[str, Mapping[str, int]], reference: Path
) -> list[dict[str, Any]]:
    """Return the published passes in COLUMNS, by model; by language where they are printed so."""
    languages = pd.read_csv(reference / "nesso2/published_languages.csv").set_index("model")
    rows: list[dict[str, Any]] = []
    for model in dict.fromkeys(name for row in published.values() for name in row):
        label = {"source": "published", "model": model}
        own = {category: row[model] for category, row in published.items()}
        rows += [
            label | {"category": category, "passed": passed, "cases": CASES}
            for category, passed in own.items()
        ]
        total = label | {"category": TOTAL, "passed": sum(own.values()), "cases": CASES * len(own)}
        if model in languages.index:
            total |= {language: int(languages.loc[model, language]) for language in LANGUAGES}
        rows.append(total)
    return rows


def _categories(data: Node) -> dict[int, str]:
    """Return the category of each case of a data set by its row in the scored split."""
    path = data.manifest["outputs"][0]["path"]
    table = pyarrow.parquet.read_table(path, columns=["split", "category"]).to_pylist()
    scored = [row["category"] for row in table if row["split"] == "test"]
    return dict(enumerate(scored))
