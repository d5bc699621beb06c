"""What a change makes again, on a run that is complete: every output of the published family exists, as an empty file."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT, link_repository, snakemake


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A working directory where all of config.yaml has been made, two tasks of each source, and its configuration."""
    folder = tmp_path_factory.mktemp("complete")
    link_repository(folder, but="config.yaml")
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    config["software"] = "venv"  # --touch is a run, which with images would ask for Apptainer
    for source in config["sources"].values():
        source["tasks"] = 2
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    listed = snakemake("--configfile", "config.yaml", "--summary", "all", folder=folder)
    assert listed.returncode == 0, listed.stderr
    for line in listed.stdout.splitlines()[1:]:
        output = folder / line.split("\t")[0]
        if output.suffix:
            output.parent.mkdir(parents=True, exist_ok=True)
            output.touch()
        else:
            output.mkdir(parents=True, exist_ok=True)
    touched = snakemake("--configfile", "config.yaml", "--touch", "all", folder=folder)
    assert touched.returncode == 0, touched.stderr
    return folder, config


@pytest.fixture
def remade(complete: tuple[Path, dict[str, Any]]) -> Callable[[Callable[[dict[str, Any]], None]], list[str]]:
    """Return a function that changes the configuration and gives the jobs that this makes necessary, as `rule wildcards`.

    All but the record of the run (provenance), which holds the configuration itself.
    """
    folder, original = complete

    def change(edit: Callable[[dict[str, Any]], None]) -> list[str]:
        config = copy.deepcopy(original)
        edit(config)
        (folder / "changed.yaml").write_text(yaml.safe_dump(config))
        done = snakemake("--configfile", "changed.yaml", "--dry-run", "all", folder=folder)
        assert done.returncode == 0, done.stdout + done.stderr
        jobs = re.findall(r"^(?:local)?rule (\S+):\n((?:    .*\n)*)", done.stdout, re.MULTILINE)
        made = [" ".join([rule, *re.findall(r"^    wildcards: (.*)$", body, re.MULTILINE)]) for rule, body in jobs]
        return [job for job in made if job not in ("provenance", "all")]

    return change


def test_nothing_is_made_again_without_a_change(remade: Callable[..., list[str]]) -> None:
    assert remade(lambda config: None) == []


def test_italian_data_concern_no_french_model(remade: Callable[..., list[str]]) -> None:
    def edit(config: dict[str, Any]) -> None:
        source = next(name for name, source in config["sources"].items() if source["language"] == "ita")
        config["sources"][source]["revision"] = "another"

    jobs = remade(edit)
    assert any(job.startswith("pretrain model=ita") for job in jobs)
    assert [job for job in jobs if re.search(r"\b(fra|spa|por|fineweb_\w+)\b", job) and "ita" not in job] == []


def test_where_it_runs_makes_nothing_again(remade: Callable[..., list[str]]) -> None:
    """Nodes, GPUs of a node and their type, CPUs, memory, times: of training and of all else."""

    def edit(config: dict[str, Any]) -> None:
        config["cluster"] = {"nodes": 16, "ranks_per_node": 4, "posttrain_nodes": 2, "cpus_per_node": 32, "gpu": "h100", "max_minutes": 600}

    assert remade(edit) == []


def test_one_more_checkpoint_makes_only_what_follows_it(remade: Callable[..., list[str]]) -> None:
    def edit(config: dict[str, Any]) -> None:
        steps = config["models"]["fra"]["pretrain"]["checkpoints"]
        steps.append(steps[-1] + 1000)

    jobs = remade(edit)
    segments = [job for job in jobs if job.startswith("pretrain")]
    assert len(segments) == 1 and "model=fra" in segments[0], segments
