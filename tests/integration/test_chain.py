"""The chain of Nesso2, small: base, knowledge, four times the context, SFT for tool use.

`make integration SLOW=chain` runs it.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from conftest import ROOT

CONFIG = "tests/integration/chain.yaml"
RESULTS = ROOT / "results/chain"
TEXT = "results/chain_text/talk.jsonl"
# The context of the base model; the long model has four times as much.
CONTEXT = 128

pytestmark = pytest.mark.slow


def zagreus(*arguments: str) -> None:
    """Run the workflow as a user does."""
    command = [ROOT / "bin/zagreus", *arguments]
    done = subprocess.run(command, cwd=ROOT, stdout=sys.stderr, stderr=sys.stderr)
    assert done.returncode == 0


@pytest.fixture(scope="module")
def run() -> Path:
    """The results of the whole chain."""
    shutil.rmtree(RESULTS, ignore_errors=True)
    zagreus(TEXT, "--snakefile", "tests/integration/chain.smk", "--configfile", "config/test.yaml")
    zagreus("all", "--configfile", CONFIG)
    return RESULTS


@pytest.fixture(scope="module")
def scores(run: Path) -> pd.DataFrame:
    return pd.read_csv(run / "tables/scores.csv", dtype={"checkpoint": str})


def value(scores: pd.DataFrame, model: str, task: str, metric: str) -> float:
    rows = scores[(scores.model == model) & (scores.task == task) & (scores.metric == metric)]
    assert len(rows) == 1, (model, task, metric)
    return float(rows.value.iloc[0])


@pytest.mark.parametrize("language", ["eng", "ita"])
def test_the_knowledge_is_learned_and_the_old_text_is_kept(
    scores: pd.DataFrame, language: str
) -> None:
    bits = {
        (task, model): value(scores, model, f"{task}_{language}", "bits_per_byte")
        for task in ("questions", "heldout")
        for model in ("ita", "ita-knowledge")
    }
    assert bits["questions", "ita-knowledge"] < 0.7 * bits["questions", "ita"]
    assert bits["heldout", "ita-knowledge"] < 1.05 * bits["heldout", "ita"]


@pytest.mark.parametrize("language", ["eng", "ita"])
def test_the_loss_beyond_the_old_context_falls(scores: pd.DataFrame, language: str) -> None:
    """By a tenth of a nat per token or more, on the same documents at the same positions."""
    task, falls = f"positions_{language}", {}
    for metric in scores[scores.task == task].metric.unique():
        before, after = (
            value(scores, model, task, metric) for model in ("ita-knowledge", "ita-long")
        )
        falls[int(re.findall(r"\d+", metric)[0])] = before - after
    assert sorted(falls) == [1, 65, 129, 257]
    assert min(fall for first, fall in falls.items() if first > CONTEXT) > 0.1


def test_the_long_model_takes_four_times_the_tokens(run: Path) -> None:
    folders = {"ita-knowledge": "60", "ita-long": "80", "nesso2-agentic": "sft"}
    shapes = {
        model: json.loads((run / "models" / model / step / "config.json").read_text())
        for model, step in folders.items()
    }
    lengths = [shape["max_position_embeddings"] for shape in shapes.values()]
    assert lengths == [CONTEXT, 4 * CONTEXT, 4 * CONTEXT]
    thetas = [shape["rope_parameters"]["rope_theta"] for shape in shapes.values()]
    assert thetas == [1e4, 1e5, 1e5]


def test_long_documents_are_chosen(run: Path) -> None:
    manifest = json.loads((run / "clean/long_ita/00000.json").read_text())
    assert manifest["removed"]["gopher_quality.gopher_short_doc"] > 0
    assert 0 < manifest["documents"] < 600


def test_held_out_sums_are_near_duplicates_of_the_others(run: Path) -> None:
    """No n-gram of 13 words tells: each question has other numbers."""
    text = "questions_ita/00000/ita.json"
    exact, near = (
        json.loads((run / folder / text).read_text())["overlap"]["questions_ita"]
        for folder in ("contamination", "near_duplicates")
    )
    assert exact["overlapping"] == 0 and near["overlapping"] == near["items"] == 20


def test_needles_by_length_and_depth(scores: pd.DataFrame) -> None:
    rows = scores[(scores.model == "ita-long") & (scores.task == "needle_ita")]
    cells = rows[rows.metric.str.startswith("acc_length")]
    assert len(cells) == 9 and cells.n.eq(8).all() and cells.chance.eq(0.25).all()
    assert value(scores, "ita-long", "needle_ita", "acc") == pytest.approx(cells.value.mean())


def test_the_sft_filters_repeats_and_ends_its_turns_as_llama_3(
    run: Path, scores: pd.DataFrame
) -> None:
    folder = run / "models/nesso2-agentic/sft"
    manifest = json.loads((folder / "manifest.json").read_text())
    talk, agentic = manifest["mix"]
    assert 0 < talk["filtered"] < talk["rows"] and talk["taken"] == talk["filtered"]
    assert agentic["taken"] == 4 * agentic["rows"]
    assert "<|start_header_id|>" in (folder / "chat_template.jinja").read_text()
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    assert settings["eos_token"] == "<|eot_id|>"
    assert value(scores, "nesso2-agentic", "tools_ita", "ends_turn") > 0


def test_the_report_shows_both(run: Path) -> None:
    figures = json.loads((run / "figures/index.json").read_text())
    titles = {item["file"]: item["title"] for item in figures}
    assert titles["loss_positions_ita.svg"] == "Loss by position, Italian"
    report = (run / "report.html").read_text()
    assert "Loss by position, English" in report and "Needles in long texts" in report
