"""The plan reckons with the jobs that a dry-run has: for every target, before anything is there."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from conftest import ROOT, snakemake

# What is planned; the others (recipes, indexes, tables, images, downloads) are seconds each.
PLANNED = ("fetch", "tokenize", "pretrain", "convert", "posttrain", "evaluate", "sample", "contamination")
PLANNED += ("fetch_chat", "fetch_evaluation", "fetch_model")


@pytest.mark.parametrize("config", ["config.yaml", "config/demo.yaml"])
def test_every_target_is_planned_with_its_jobs(config: str, checkout: Path) -> None:
    done = snakemake("plan", "--quiet", "all", "--sdm", "apptainer", "--configfile", str(ROOT / config), folder=checkout)
    assert done.returncode == 0, done.stderr
    table = done.stdout.split("By target")[1].split("\n\n")[0]
    planned = {name: int(jobs.replace(",", "")) for name, jobs in re.findall(r"^ *([a-z-]+) +([\d,]+) ", table, re.MULTILINE)}
    goldens = json.loads((ROOT / "tests/dag/goldens.json").read_text())[config]
    expected = {target: sum(jobs.get(rule, 0) for rule in PLANNED) for target, jobs in goldens.items()}
    assert planned == expected | {"report": expected["all"]}
