"""Jobs per rule of every target, against goldens.json: a change of the DAG must be meant.

`python tests/dag/test_goldens.py` writes the goldens anew.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parent))
from conftest import ROOT, job_counts, link_repository, snakemake

GOLDENS = Path(__file__).with_name("goldens.json")
# How each configuration is dry-run: the published family as on the cluster. `--sdm env-modules`
# takes the place of the profile's Apptainer, which Snakemake would look for in a dry-run too; no
# rule uses it.
CONFIGS = {
    "config.yaml": ("--profile", str(ROOT / "profiles/slurm"), "--sdm", "env-modules"),
    "config/demo.yaml": (),
    "config/ladder.yaml": (),
    "config/nesso2.yaml": ("--profile", str(ROOT / "profiles/slurm"), "--sdm", "env-modules"),
}


def _targets(config: str) -> list[str]:
    read = yaml.safe_load((ROOT / config).read_text())
    ladder = ["ladder"] if "ladder" in read else []
    return ["all", "tokens", "bases", "evals", "stage", *ladder, *read["models"]]


@pytest.mark.parametrize(
    ("config", "target"), [(config, target) for config in CONFIGS for target in _targets(config)]
)
def test_jobs_per_rule(config: str, target: str, dry_run: Callable[..., dict[str, int]]) -> None:
    assert (
        dry_run(config, target, arguments=CONFIGS[config])
        == json.loads(GOLDENS.read_text())[config][target]
    )


@pytest.mark.parametrize("config", ["config/small.yaml", "config/test.yaml"])
def test_the_other_sizes_have_a_whole_dag(
    config: str, dry_run: Callable[..., dict[str, int]]
) -> None:
    assert dry_run(config, "all")["report"] == 1


@pytest.mark.parametrize("config", CONFIGS)
def test_stage_is_all_that_needs_a_network(config: str) -> None:
    jobs = json.loads(GOLDENS.read_text())[config]
    for rule in (
        "base_image",
        "download",
        "wheelhouse",
        "image",
        "list_files",
        "fetch",
        "fetch_chat",
        "fetch_evaluation",
        "fetch_model",
    ):
        # `stage` makes every image; a configuration without post-training needs fewer.
        assert jobs["stage"].get(rule, 0) >= jobs["all"].get(rule, 0), rule


def test_one_language_needs_no_other(dry_run: Callable[..., dict[str, int]]) -> None:
    """The French model alone: one base model's segments, and no post-training."""
    jobs = dry_run("config/demo.yaml", "fra")
    steps = yaml.safe_load((ROOT / "config/demo.yaml").read_text())["models"]["fra"]["pretrain"][
        "checkpoints"
    ]
    assert jobs["pretrain"] == jobs["convert"] == len(steps)
    assert "posttrain" not in jobs


def test_without_apptainer_a_real_run_stops_with_one_line(checkout: Path) -> None:
    """Jobs that should run in images must not run on the host in silence."""
    done = snakemake("tokens", "--configfile", str(ROOT / "config/demo.yaml"), folder=checkout)
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode != 0 and len(lines) == 1 and "--sdm apptainer" in lines[0], done.stderr


if __name__ == "__main__":
    goldens: dict[str, dict[str, dict[str, int]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        link_repository(Path(folder))
        for config in CONFIGS:
            for target in _targets(config):
                done = snakemake(
                    target,
                    "--dry-run",
                    *CONFIGS[config],
                    "--configfile",
                    str(ROOT / config),
                    folder=Path(folder),
                )
                assert done.returncode == 0, done.stdout + done.stderr
                goldens.setdefault(config, {})[target] = job_counts(done.stdout)
    GOLDENS.write_text(json.dumps(goldens, indent=1) + "\n")
