"""Near-duplicates in the tables and on the page: items in other words leave the clean scores."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pyarrow
import pyarrow.parquet
import pytest
from reporting_run import TASKS, family, make_report, script, tabulate

from zagreus.data.near_duplicates import ROWS
from zagreus.manifest import write_manifest
from zagreus.reporting.contamination import clean_scores, contaminated_items, contamination_table
from zagreus.reporting.items import all_answers
from zagreus.reporting.lineage import Lineage


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A run whose `ita_bible` holds two items in other words; row 5 is there word for word too."""
    root = tmp_path_factory.mktemp("run")
    manifests = make_report(root)
    exact = next(path for path in manifests if "contamination/ita_bible" in path)
    inputs = [item["path"] for item in json.loads(Path(exact).read_text())["inputs"]]
    manifest = root / "near_duplicates/ita_bible/00000/eng.json"
    manifest.parent.mkdir(parents=True)
    rows = [
        {"dataset": "items", "split": "test", "row": row, "item": f"i{row}", "documents": 1}
        | {"similarity": similarity, "example": "d7"}
        for row, similarity in ((5, 0.9), (7, 0.71))
    ]
    path = manifest.with_suffix(".parquet")
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows, schema=ROWS), path)
    overlap = {"items": {"items": 500, "checked": 180, "overlapping": 2}}
    write_manifest(
        manifest,
        kind="near_duplicates",
        name="ita_bible/00000/eng",
        inputs=[Path(item) for item in inputs],
        outputs=[path],
        overlap=overlap,
    )
    return root, [*manifests, str(manifest)]


def test_an_item_counts_once_and_leaves_the_clean_scores(run: tuple[Path, list[str]]) -> None:
    lineage = Lineage(run[1])
    items = contaminated_items(lineage)
    own = items[items["source"] == "ita_bible"].set_index("row")
    assert own.index.tolist() == [1, 5, 7, 9]
    assert own.loc[5, ["matched", "similarity"]].tolist() == [3, 0.9]
    assert own["similarity"].isna().tolist() == [True, False, False, True]
    assert pd.isna(own.loc[7, "matched"]) and own.loc[7, "example"] == "d7"
    table = contamination_table(lineage, items).set_index("source")
    assert table.loc["ita_bible", ["checked", "overlapping"]].tolist() == [190, 4]
    clean = clean_scores(lineage, items, all_answers(lineage), family(), TASKS)
    rows = clean[(clean["model"] == "ita") & (clean["task"] == "choice_ita")]
    assert rows["overlapping"].tolist() == [4]


def test_the_page_tells_the_two_apart(run: tuple[Path, list[str]], tmp_path: Path) -> None:
    root, manifests = run
    tables, page = tmp_path / "tables", tmp_path / "report.html"
    assert tabulate(manifests, root / "benchmarks", tables).returncode == 0
    arguments = ["--name", "near", "--tables", tables, "--figures", root / "figures"]
    done = script("report", *manifests, *arguments, "--output", page)
    assert done.returncode == 0, done.stderr
    text = page.read_text(encoding="utf-8")
    assert "in other words, 0.71" in text and ">3 of 9<" in text
    assert "character n-grams" in text
    assert "character n-grams" not in (root / "report.html").read_text(encoding="utf-8")
