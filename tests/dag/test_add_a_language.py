"""docs/add_a_language.md: one entry adds German, and German jobs alone appear."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT, job_counts, snakemake

from zagreus.config.long_form import read_config
from zagreus.workflow.workflow import Workflow

BLOCKS = re.findall(
    r"^```yaml\n(.*?)^```", (ROOT / "docs/add_a_language.md").read_text(), re.MULTILINE | re.DOTALL
)
ENTRIES = dict(zip(("config.yaml", "config/demo.yaml"), map(yaml.safe_load, BLOCKS)))
JOB = re.compile(r"^(?:local)?rule (\S+):\n((?:    .*\n)*)", re.MULTILINE)
# The report of all models holds the German model too.
OF_ALL = {"tabulate", "plot", "report", "provenance", "all"}


def with_german(config: str) -> dict[str, Any]:
    """Return a configuration with the entry of the page, and nothing else."""
    loaded = loaded_config(config)
    assert list(ENTRIES[config]) == ["models"] and list(ENTRIES[config]["models"]) == ["deu"]
    loaded["models"] |= ENTRIES[config]["models"]
    return loaded


def loaded_config(config: str) -> dict[str, Any]:
    """Return a configuration as it stands in the file, with few tasks: each is a job."""
    loaded: dict[str, Any] = yaml.safe_load((ROOT / config).read_text())
    for source in loaded["sources"].values():
        source["tasks"] = min(source["tasks"], 2)
    return loaded


def write(config: dict[str, Any], file: Path) -> Path:
    """Write a configuration in the order of its keys, which is that of the tasks of a suite."""
    file.write_text(yaml.safe_dump(config, sort_keys=False))
    return file


def jobs(file: Path, folder: Path) -> set[tuple[str, str]]:
    """Return the rule and the wildcards of every job of a dry-run of everything."""
    done = snakemake("all", "--dry-run", "--configfile", str(file), folder=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    rules = set()
    for rule, body in JOB.findall(done.stdout):
        wildcards = re.search(r"^    wildcards: (.*)$", body, re.MULTILINE)
        rules.add((rule, wildcards[1] if wildcards else ""))
    return rules


@pytest.mark.parametrize("config", ENTRIES)
def test_german_jobs_alone_appear(config: str, checkout: Path) -> None:
    before = jobs(write(loaded_config(config), checkout / "plain.yaml"), checkout)
    after = jobs(write(with_german(config), checkout / "german.yaml"), checkout)
    assert before <= after
    new = after - before
    assert {rule for rule, _ in new} >= {
        *("fetch", "tokenize", "index_tokens", "tokenize_heldout", "render_recipe", "pretrain"),
        *("convert", "fetch_evaluation", "evaluate", "sample", "contamination"),
    }
    assert [job for job in new if not re.search(r"\bdeu\b|deu_|_deu\b|_de\b", job[1])] == []
    assert not {rule for rule, _ in new} & OF_ALL


@pytest.mark.parametrize("config", ENTRIES)
def test_the_german_model_takes_german_tasks(config: str, tmp_path: Path) -> None:
    """And no task of any other model changes."""
    german_file = write(with_german(config), tmp_path / "german.yaml")
    plain, german = (
        Workflow.read(read_config(file) | {"software": "venv"}, []).evaluation
        for file in (ROOT / config, german_file)
    )
    for model in plain.models.all:
        for suite in plain.config["evaluations"]:
            assert plain.tasks(model, suite) == german.tasks(model, suite)
    taken = {
        task["name"]: task["language"]
        for suite in german.config["evaluations"]
        for task in german.tasks("deu", suite)
    }
    assert {"heldout_deu", "choice_deu"} <= set(taken)
    assert {language for name, language in taken.items() if "_de" in name} == {"deu"}
    if config == "config.yaml":
        assert {"m_mmlu_de", "m_mmlu_cloze_de", "belebele_de", "include_de"} <= set(taken)
        belebele = german.data("belebele_de")
        assert belebele["files"] == {"test": "deu_Latn/test/0000.parquet"}
        assert german.data("include_de")["files"] == {"test": "German/test/0000.parquet"}


def test_the_post_trained_model_takes_german_prompts(tmp_path: Path) -> None:
    """The entries of the page's last example, after those of the German base model."""
    config = with_german("config/demo.yaml")
    for section, entries in yaml.safe_load(BLOCKS[2]).items():
        assert not entries.keys() & config[section].keys()
        config[section] |= entries
    file = write(config, tmp_path / "german.yaml")
    evaluation = Workflow.read(read_config(file) | {"software": "venv"}, []).evaluation
    taken = [
        task["name"]
        for suite in evaluation.config["evaluations"]
        for task in evaluation.tasks("nesso-deu", suite)
    ]
    assert {"heldout_deu", "choice_deu", "instructions_deu"} <= set(taken)
    assert not [name for name in taken if name.endswith(("_ita", "_spa", "_por", "_fra"))]


def test_the_whole_german_configuration_is_planned(checkout: Path) -> None:
    """tests/integration/german.yaml, which the slow test trains."""
    done = snakemake(
        *("all", "--dry-run", "--configfile", str(ROOT / "tests/integration/german.yaml")),
        folder=checkout,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert {"pretrain", "posttrain", "evaluate", "report"} <= job_counts(done.stdout).keys()
