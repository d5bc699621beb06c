"""The plan reckons with the jobs that a dry-run has: for every target, before anything is there."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, snakemake

from zagreus.config.long_form import read_config

# What is planned; the others (recipes, indexes, tables, images, downloads) are seconds each.
PLANNED = (
    "fetch",
    "tokenize",
    "pretrain",
    "convert",
    "posttrain",
    "evaluate",
    "sample",
    "contamination",
)
PLANNED += ("fetch_chat", "fetch_evaluation", "fetch_model")


@pytest.mark.parametrize("config", ["config.yaml", "config/demo.yaml", "config/ladder.yaml"])
def test_every_target_is_planned_with_its_jobs(config: str, checkout: Path) -> None:
    done = snakemake(
        "plan",
        "--quiet",
        "all",
        "--sdm",
        "apptainer",
        "--configfile",
        str(ROOT / config),
        folder=checkout,
    )
    assert done.returncode == 0, done.stderr
    table = done.stdout.split("By target")[1].split("\n\n")[0]
    planned = {
        name: int(jobs.replace(",", ""))
        for name, jobs in re.findall(r"^ *([a-z-]+) +([\d,]+) ", table, re.MULTILINE)
    }
    goldens = json.loads((ROOT / "tests/dag/goldens.json").read_text())[config]
    expected = {
        target: sum(jobs.get(rule, 0) for rule in PLANNED) for target, jobs in goldens.items()
    }
    assert planned == expected | {"report": expected["all"]}


LANGUAGES = ("cat", "ces", "deu", "ell", "hun", "nld", "pol", "ron", "slk", "swe")


def test_ten_more_languages_are_planned(checkout: Path) -> None:
    """Linux takes 131,072 bytes for an argument; the configuration and its files exceed them."""
    config = read_config(ROOT / "config.yaml")
    ours = {"ita": config["models"]["ita"], "instruct": config["models"]["nesso-instruct"]}
    data = {
        name: entry
        for name, entry in config["evaluation_data"].items()
        if entry["language"] == "ita"
    }
    for language in LANGUAGES:
        for source in ("fineweb2_ita", "finepdfs_ita"):
            named = source.replace("ita", language)
            config["sources"][named] = {**config["sources"][source], "language": language}
        for name, model in ours.items():
            made = copy.deepcopy(model) | {"languages": ["eng", language]}
            if "pretrain" in made:
                mixture = made["pretrain"]["mixture"]
                made["pretrain"]["mixture"] = {
                    name.replace("ita", language): share for name, share in mixture.items()
                }
            else:
                made["from"] = language
            config["models"][language if name == "ita" else f"{language}-{name}"] = made
        for name, entry in data.items():
            config["evaluation_data"][f"{name}_{language}"] = {**entry, "language": language}
        for suite in config["evaluations"].values():
            tasks = [task for task in suite["tasks"] if task["data"] in data]
            suite["tasks"] += [
                {**task, "name": f"{task['name']}_{language}", "data": f"{task['data']}_{language}"}
                for task in tasks
            ]
    (checkout / "many.yaml").write_text(yaml.safe_dump(config))
    done = snakemake(
        "plan", "--quiet", "all", "--sdm", "apptainer", "--configfile", "many.yaml", folder=checkout
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"^ *swe-instruct +\d", done.stdout, re.MULTILINE)
    assert (checkout / ".snakemake/plan.json").stat().st_size > 131_072
