"""The ladder in a report: its figure, its rungs, the prediction beside the trained model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from reporting_run import STEPS, make_report, script

from zagreus.manifest import write_manifest
from zagreus.reporting.ladder import section
from zagreus.reporting.lineage import Lineage
from zagreus.reporting.tables import read_tables

LAW = {"E": 1.5, "A": 40.0, "alpha": 0.3, "B": 60.0, "beta": 0.3, "deviation": 0.004, "freedom": 4}
JUDGED = {
    "inside": 8,
    "rungs": 9,
    "least": 6,
    "outside": ["ladder-a-1000000"],
    "largest_inside": True,
    "holds": True,
    "summary": "leave one out: 8 of 9 rungs inside their 90% intervals; outside: ladder-a-1000000",
}


def write_ladder(folder: Path, low: float, high: float) -> Path:
    """Write a fit as fit_ladder does, and its figure; return the manifest."""
    rows = [
        {
            "rung": f"ladder-{name}-{tokens}",
            "parameters": size,
            "tokens": tokens,
            "loss": 4.0,
            "fitted": 4.01,
            "predicted": 4.02,
            "low": 3.9,
            "high": 4.1,
            "inside": (name, tokens) != ("a", 1_000_000),
        }
        for name, size in (("a", 100_000), ("b", 300_000), ("c", 900_000))
        for tokens in (1_000_000, 2_000_000, 4_000_000)
    ]
    folder.mkdir(parents=True)
    pd.DataFrame(rows).to_csv(folder / "rungs.csv", index=False)
    prediction = {"model": "ita", "step": STEPS[-1], "parameters": 2_000_000, "tokens": 8_000_000}
    prediction |= {"level": 0.9, "loss": (low + high) / 2, "low": low, "high": high}
    write_manifest(
        folder / "manifest.json",
        kind="ladder",
        name="ita",
        outputs=[folder / "rungs.csv"],
        law=LAW,
        leave_one_out=JUDGED,
        prediction=prediction,
    )
    done = script(
        "plot_ladder", "--fit", folder / "manifest.json", "--output", folder / "ladder.svg"
    )
    assert done.returncode == 0, done.stderr
    return folder / "manifest.json"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    root = tmp_path_factory.mktemp("run")
    return root, make_report(root)


def training(loss: float | None) -> pd.DataFrame:
    """The end of a training log, as the table `training` has it."""
    row: dict[str, Any] = {"model": "ita", "stage": "pretrain", "step": STEPS[-1]}
    return pd.DataFrame([{**row, "heldout_loss": loss}])


def test_the_trained_model_stands_beside_the_prediction(tmp_path: Path) -> None:
    lineage = Lineage([write_ladder(tmp_path / "ladder", 3.0, 3.2)])
    for loss, inside in ((3.1, True), (3.3, False), (None, None)):
        shown = section(lineage, training(loss))
        assert shown is not None and (shown["loss"], shown["inside"]) == (loss, inside)
    assert section(Lineage([]), training(3.1)) is None


def test_the_page_has_a_section(run: tuple[Path, list[str]], tmp_path: Path) -> None:
    root, manifests = run
    loss = read_tables(root / "tables", ["training"])["training"]
    assert "heldout_loss" in loss
    ladder = write_ladder(tmp_path / "ladder", 3.0, 3.2)
    arguments = ("--name", "run", "--tables", root / "tables", "--figures", root / "figures")
    page = tmp_path / "report.html"
    done = script("report", *manifests, ladder, *arguments, "--output", page)
    assert done.returncode == 0, done.stderr
    text = page.read_text(encoding="utf-8")
    assert 'href="#ladder"' in text and text.count('id="figure-ladder"') == 1
    part = text[text.index('<section id="ladder">') :].partition("</section>")[0]
    assert "8 of 9 rungs inside" in part and "90 % interval 3.0000 to 3.2000" in part
    assert part.count("ladder-b-") == 3 and "<svg" in part
    assert '<section id="ladder">' not in (root / "report.html").read_text(encoding="utf-8")


def test_the_figure_is_the_same_each_time(tmp_path: Path) -> None:
    one, other = (write_ladder(tmp_path / name, 3.0, 3.2) for name in ("a", "b"))
    figures = [path.with_name("ladder.svg").read_bytes() for path in (one, other)]
    assert figures[0] == figures[1] and b"8M" in figures[0]
    assert json.loads(one.read_text())["kind"] == "ladder"
