"""What the whole pipeline makes.

It learns, and a second run, killed again and again, makes the same bytes.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from conftest import CONFIG, ROOT

MODELS = yaml.safe_load((ROOT / CONFIG).read_text())["models"]
BASES = [
    name
    for name, model in MODELS.items()
    if "pretrain" in model and "from" not in model["pretrain"]
]
CONTINUED = [name for name, model in MODELS.items() if "from" in model.get("pretrain", {})]


@pytest.fixture(scope="module")
def scores(first: Path) -> pd.DataFrame:
    return pd.read_csv(first / "tables" / "scores.csv", dtype={"checkpoint": str})


def _bits(scores: pd.DataFrame, model: str, language: str) -> pd.DataFrame:
    """Return the held-out bits per byte of a base model's checkpoints, by step."""
    rows = scores[
        (scores.model == model) & (scores.metric == "bits_per_byte") & (scores.language == language)
    ]
    return rows.sort_values("step")


@pytest.mark.parametrize("model", BASES)
def test_bits_per_byte_fall_far_and_below_a_unigram_model(scores: pd.DataFrame, model: str) -> None:
    for language in MODELS[model]["languages"]:
        rows = _bits(scores, model, language)
        assert len(rows) == len(MODELS[model]["pretrain"]["checkpoints"])
        assert rows.value.iloc[-1] < 0.9 * rows.value.iloc[0]
        assert rows.value.iloc[-1] < rows.majority_baseline.iloc[-1]


@pytest.mark.parametrize("model", CONTINUED)
def test_a_continued_model_keeps_its_old_languages_and_gains_on_the_new_one(
    scores: pd.DataFrame, model: str
) -> None:
    origin = MODELS[model]["pretrain"]["from"]
    for language in MODELS[model]["languages"]:
        change = (
            _bits(scores, model, language).value.iloc[-1]
            / _bits(scores, origin, language).value.iloc[-1]
        )
        assert change < (1.1 if language in MODELS[origin]["languages"] else 0.9), language


@pytest.mark.parametrize(
    "language",
    [language for model in BASES for language in MODELS[model]["languages"] if language != "eng"],
)
def test_each_bilingual_model_is_best_on_its_own_language(
    scores: pd.DataFrame, language: str
) -> None:
    last = {model: _bits(scores, model, language).value.iloc[-1] for model in BASES}
    assert language in MODELS[min(last, key=lambda model: last[model])]["languages"], last


def test_fine_tuning_makes_the_chat_format_appear(scores: pd.DataFrame) -> None:
    ends = scores[scores.metric == "ends_turn"]
    assert ends[ends.model == "nesso-instruct"].value.max() > 0.5


def test_a_distilled_model_comes_nearer_to_its_teacher(first: Path) -> None:
    manifest = json.loads((first / "models/nesso-distilled/distill/manifest.json").read_text())
    kl = manifest["heldout_kl"]
    assert manifest["teacher"] == "nesso-instruct/dpo" and kl["prompts"] >= 10
    assert kl["after"] < 0.9 * kl["before"]
    table = pd.read_csv(first / "tables/distillation.csv")
    assert table.kl_after.tolist() == [kl["after"]]


def test_every_score_has_its_error_and_its_chance_level(scores: pd.DataFrame) -> None:
    chosen = scores[scores.metric.isin(["acc", "acc_norm"])]
    assert len(chosen) and chosen.chance.between(0.01, 0.99).all() and chosen.stderr.notna().all()
    assert (chosen.n > 1).all() and scores.value.map(math.isfinite).all()


def test_a_score_can_be_walked_back_to_the_text(first: Path) -> None:
    """Every manifest's inputs exist with the sha256 that it names, down to a downloaded wheel."""
    import hashlib

    seen: set[str] = set()
    todo = [
        str(path)
        for path in first.glob("evaluate/*/*/*.json")
        if not path.name.endswith(".run.json")
    ]
    wheels = 0
    while todo:
        path = Path(todo.pop())
        if str(path) in seen or path.suffix != ".json" or not path.is_file():
            continue
        seen.add(str(path))
        manifest = json.loads(path.read_text())
        for used in manifest.get("inputs", ()):
            used_file = ROOT / used["path"].replace("results/test/", "results/test-first/")
            assert hashlib.sha256(used_file.read_bytes()).hexdigest() == used["sha256"], (
                f"{path}: {used['path']}"
            )
            wheels += used_file.suffix == ".whl"
            todo.append(str(used_file))
    assert wheels, "no manifest leads to a wheel"


def test_after_stage_the_run_needs_no_network(offline: list[str], first: Path) -> None:
    """The first run went on without one.

    Here is only shown that there was none, and that it ran to its end.
    """
    if not offline:
        pytest.skip(
            "this machine allows no network namespace: the run after `stage` had the network"
        )
    call = "import socket; socket.create_connection(('192.0.2.1', 80), timeout=5)"
    reached = subprocess.run([*offline, sys.executable, "-c", call], capture_output=True, text=True)
    assert reached.returncode != 0 and "Network is unreachable" in reached.stderr
    assert (first / "report.html").exists()


def test_overlaps_with_training_text_are_found_and_scores_given_without_them(first: Path) -> None:
    """Chronicles repeats Kings word for word.

    Some held-out chapter of the three Bibles has its double in the training text.
    """
    table = pd.read_csv(first / "tables" / "contamination.csv")
    assert (
        table.loc[table.source.str.endswith("bible"), "overlapping"].sum() > 0
        and (table.checked <= table["items"]).all()
    )
    assert (table[table.dataset == "arc_easy"].overlapping == 0).all()
    clean = pd.read_csv(first / "tables" / "clean_scores.csv")
    assert len(clean) and (clean.overlapping > 0).all() and clean.without.notna().any()


def test_every_published_number_is_in_the_ledger_of_this_run(first: Path) -> None:
    replication = pd.read_csv(first / "tables" / "replication.csv")
    assert (
        len(replication) > 200
        and replication.status.isin(
            ["not run", "contradicts itself", "cannot be reproduced: private data"]
        ).all()
    )


def test_the_report_is_one_page_with_everything(first: Path) -> None:
    page = (first / "report.html").read_text()
    assert (
        "<svg" in page
        and 'src="http' not in page
        and 'href="http' not in page.replace('href="https://', "")
    )
    assert all(model["title"] in page for model in MODELS.values())


def test_snakemakes_own_report_holds_the_page_and_every_figure(
    second: Path, tmp_path: Path
) -> None:
    page = tmp_path / "report.html"
    done = subprocess.run(
        [ROOT / "bin" / "zagreus", "all", "--configfile", CONFIG, "--report", page],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    figures = [
        entry["file"] for entry in json.loads((second / "figures" / "index.json").read_text())
    ]
    text = page.read_text()
    assert (
        figures
        and [name for name in ("report.html", *figures) if f'"name": "{name}"' not in text] == []
    )


def test_a_second_run_does_nothing(second: Path) -> None:
    done = subprocess.run(
        [ROOT / "bin" / "zagreus", "all", "--configfile", CONFIG],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and "Nothing to be done" in done.stdout + done.stderr


def _bytes(folder: Path) -> dict[str, bytes]:
    """Return what two identical runs must share.

    Shards, tokenizer, weights, scores, and every manifest of theirs.
    """
    patterns = (
        "sources/**/*",
        "chat/**/*",
        "evaluation_data/**/*",
        "tokenizer/*",
        "tokens/**/*",
        "pretrain/*/*.json",
        "pretrain/*/*.yaml",
    )
    patterns += (
        "models/**/*",
        "contamination/**/*",
        "evaluate/**/*",
        "samples/**/*",
        "tables/scores.csv",
        "tables/published_*.csv",
        "tables/contamin*.csv",
        "tables/paired.csv",
        "tables/signal.csv",
        "figures/*",
    )
    files = {
        path
        for pattern in patterns
        for path in folder.glob(pattern)
        if path.is_file() and not path.name.endswith(".run.json")
    }
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_a_run_killed_at_every_stage_makes_the_same_bytes(first: Path, second: Path) -> None:
    one, other = _bytes(first), _bytes(second)
    assert one.keys() == other.keys()
    assert [name for name in sorted(one) if one[name] != other[name]] == []
    assert any(name.endswith(".ds") for name in one) and any(
        name.endswith("model.safetensors") for name in one
    )
