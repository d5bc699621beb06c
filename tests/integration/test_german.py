"""A language that no committed configuration trains: German, from text to report.

`make integration SLOW=german` runs it.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from conftest import ROOT

CONFIG = "tests/integration/german.yaml"
RESULTS = ROOT / "results/german"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run() -> Path:
    """The results of the whole run."""
    shutil.rmtree(RESULTS, ignore_errors=True)
    command = [ROOT / "bin/zagreus", "all", "--configfile", CONFIG]
    done = subprocess.run(command, cwd=ROOT, stdout=sys.stderr, stderr=sys.stderr)
    assert done.returncode == 0
    return RESULTS


@pytest.fixture(scope="module")
def scores(run: Path) -> pd.DataFrame:
    return pd.read_csv(run / "tables/scores.csv", dtype={"checkpoint": str})


def test_the_base_model_learns_german(scores: pd.DataFrame) -> None:
    rows = scores[(scores.task == "heldout_deu") & (scores.model == "deu")].sort_values("step")
    assert rows.language.eq("deu").all() and rows.step.tolist() == [20, 120]
    assert rows.value.iloc[-1] < 0.9 * rows.value.iloc[0]
    assert rows.value.iloc[-1] < rows.majority_baseline.iloc[-1]


def test_german_items_are_german(run: Path) -> None:
    assert {item.split(":")[0] for item in _column(run, "instructions_deu", "id")} == {"german"}
    assert {item.split(":")[0] for item in _column(run, "instructions_eng", "id")} == {"english"}
    sources = {item.split(":")[0] for item in _column(run, "heldout_deu", "id")}
    assert sources == {"deu_bible", "deu_interface"}
    assert {item.split(":")[0] for item in _column(run, "translation_deu", "id")} == {"deu_bible"}
    text = " ".join(_column(run, "heldout_deu", "text"))
    assert any(letter in text for letter in "äöüß") and " the " not in text


def test_answers_are_judged_by_their_language(run: Path, scores: pd.DataFrame) -> None:
    """A model of mixed text answers in German at least once, and that answer counts."""
    rows = scores[(scores.task == "instructions_deu") & (scores.metric == "in_language")]
    assert len(rows) == 1 and 0 < rows.value.iloc[0] <= 1
    ends = scores[scores.metric == "ends_turn"]
    assert ends.value.max() > 0.5


def test_cards_name_german(run: Path) -> None:
    base = (run / "models/deu/120/README.md").read_text()
    assert "\nlanguage:\n- de\n- en\n" in base
    assert "| deu_interface | German | 10.0% | Apache-2.0 |" in base
    tuned = (run / "models/nesso-deu/sft/README.md").read_text()
    assert "Ciao" not in tuned and '"content": "Hello"' in tuned


def test_figures_and_report_name_german(run: Path) -> None:
    titles = {item["file"]: item["title"] for item in _index(run)}
    assert titles["bits_heldout_deu.svg"] == "Bits per byte, German"
    assert titles["posttrained_deu.svg"] == "Post-trained, German"
    report = (run / "report.html").read_text()
    assert "Zagreus test, English and German" in report and "Im Anfang" in report


def _column(run: Path, data: str, column: str) -> list[str]:
    """Return a column of evaluation data, as `bin/zagreus show` prints the rows."""
    file = run / f"evaluation_data/{data}.parquet"
    command = [ROOT / "bin/zagreus", "show", file, "--rows", "50"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    values = [
        line.removeprefix(f"  {column}: ")
        for line in done.stdout.splitlines()
        if line.startswith(f"  {column}: ")
    ]
    assert values, done.stdout
    return [value.strip('"') for value in values]


def _index(run: Path) -> list[dict[str, str]]:
    figures: list[dict[str, str]] = json.loads((run / "figures/index.json").read_text())
    return figures
