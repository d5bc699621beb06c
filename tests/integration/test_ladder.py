"""A real ladder: twelve small trainings predict the held-out loss of a larger model.

`make integration SLOW=ladder` runs it, in ten minutes on two cores.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from conftest import ROOT

from zagreus.scaling.log import heldout_loss

CONFIG = "config/ladder.yaml"
RESULTS = ROOT / "results/ladder"

pytestmark = pytest.mark.slow


def zagreus(*arguments: str) -> str:
    """Run bin/zagreus; return what it printed."""
    command = [ROOT / "bin/zagreus", *arguments, "--configfile", CONFIG]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=sys.stderr, text=True)
    assert done.returncode == 0
    return done.stdout


@pytest.fixture(scope="module")
def printed() -> str:
    """What the target prints, once the rungs are trained."""
    return zagreus("ladder")


def test_leave_one_out_holds(printed: str) -> None:
    """Each rung from the others, and the largest rung inside its interval."""
    fit = json.loads((RESULTS / "ladder/manifest.json").read_text())
    judged = fit["leave_one_out"]
    assert judged["rungs"] == 12 and judged["holds"] and judged["summary"] in printed
    rungs = pd.read_csv(RESULTS / "ladder/rungs.csv")
    assert rungs["inside"].sum() == judged["inside"]
    assert rungs["loss"].between(2, 6.9).all(), "6.93 is the loss of a guess among 1,024 tokens"
    # More parameters and more tokens are better, but for noise.
    by_size = rungs.groupby("parameters")["loss"].mean()
    by_tokens = rungs.groupby("tokens")["loss"].mean()
    assert by_size.is_monotonic_decreasing and by_tokens.is_monotonic_decreasing


def test_the_larger_model_is_inside_its_interval(printed: str) -> None:
    zagreus("ita")
    prediction = json.loads((RESULTS / "ladder/manifest.json").read_text())["prediction"]
    loss = heldout_loss(Path(RESULTS / "pretrain/ita/800.jsonl"), prediction["step"])
    assert prediction["low"] <= loss <= prediction["high"]
    assert "ita as trained: loss" in zagreus("ladder")
