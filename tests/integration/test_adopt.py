"""Artifacts of one run, adopted by another.

Put in place by the workflow, in its images, and what a dry-run shows then.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import CONFIG, ROOT

FOLDER = "results/test-adopt"


@pytest.fixture(scope="module")
def adopting(first: Path) -> str:
    """A configuration that adopts the tokenizer, the Italian shards and the first Italian
    checkpoint of the first run, after `adopt`.
    """
    config: dict[str, Any] = yaml.safe_load((ROOT / CONFIG).read_text())
    shutil.rmtree(ROOT / FOLDER, ignore_errors=True)
    (ROOT / FOLDER).mkdir(parents=True)
    made = first.relative_to(ROOT)
    config["pathvars"] |= {
        "results": FOLDER,
        "logs": f"{FOLDER}/logs",
        "benchmarks": f"{FOLDER}/benchmarks",
    }
    config["tokenizer"] = {"kind": "local", "folder": f"{made}/tokenizer"}
    step = config["models"]["ita"]["pretrain"]["checkpoints"][0]
    config["models"]["ita"]["pretrain"]["checkpoints"] = [step]
    config["adopt"] = {
        "tokens/ita_bible": {"folder": f"{made}/tokens/ita_bible", "origin": "the first run's"},
        f"models/ita/{step}": {"folder": f"{made}/models/ita/{step}", "origin": "the first run's"},
    }
    file = f"{FOLDER}/config.yaml"
    (ROOT / file).write_text(yaml.safe_dump(config))
    done = subprocess.run(
        [ROOT / "bin/zagreus", "adopt", "--configfile", file],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return file


def test_the_files_are_those_of_the_other_run(adopting: str, first: Path) -> None:
    manifests = [
        *(ROOT / FOLDER).glob("tokens/ita_bible/?????.json"),
        *(ROOT / FOLDER).glob("models/ita/*/manifest.json"),
    ]
    assert len(manifests) >= 2
    for path in manifests:
        manifest = json.loads(path.read_text())
        original = json.loads((first / path.relative_to(ROOT / FOLDER)).read_text())
        assert manifest["adopted"] == "the first run's"
        assert {item["sha256"] for item in manifest["outputs"]} == {
            item["sha256"] for item in manifest["origin"]
        }
        assert {item["sha256"] for item in original["outputs"]} <= {
            item["sha256"] for item in manifest["origin"]
        } | {item["sha256"] for item in original["outputs"] if item["path"].endswith(".jsonl")}


def test_only_what_comes_after_is_left_to_do(adopting: str) -> None:
    done = subprocess.run(
        [ROOT / "bin/zagreus", "-n", "nesso-instruct", "--configfile", adopting],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    rules = set(re.findall(r"^rule (\S+):", done.stdout, re.MULTILINE))
    assert done.returncode == 0 and "posttrain" in rules and "evaluate" in rules, done.stderr
    assert rules.isdisjoint(
        {
            "pretrain",
            "convert",
            "render_recipe",
            "tokenize",
            "tokenizer",
            "adopt_model",
            "adopt_tokens",
        }
    ), rules


def test_a_second_adopt_does_nothing(adopting: str) -> None:
    done = subprocess.run(
        [ROOT / "bin/zagreus", "adopt", "--configfile", adopting],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and "Nothing to be done" in done.stdout + done.stderr
