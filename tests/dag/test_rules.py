"""Rules hold no logic: the reader of the configuration is the library's (zagreus/workflow)."""

from __future__ import annotations

import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, job_counts, link_repository, snakemake

from zagreus.config.long_form import read_config

RULES = sorted((ROOT / "rules").glob("*.smk"))
INCLUDE = re.compile(r'^include: "rules/(?!common\.smk).*"\n', re.MULTILINE)


@pytest.mark.parametrize("file", RULES, ids=lambda file: file.name)
def test_no_functions(file: Path) -> None:
    text = file.read_text()
    assert re.findall(r"^\s*(?:async )?def \w+|\blambda\b", text, re.MULTILINE) == []


def test_the_binding_is_short() -> None:
    assert len((ROOT / "rules/common.smk").read_text().splitlines()) <= 60


def _shuffled(includes: list[str]) -> list[str]:
    return random.Random(1).sample(includes, len(includes))


def _reversed(includes: list[str]) -> list[str]:
    return includes[::-1]


@pytest.mark.parametrize("rearranged", [_shuffled, _reversed])
def test_the_order_of_the_files_does_not_matter(
    rearranged: Callable[[list[str]], list[str]], tmp_path: Path, checkout: Path
) -> None:
    """A Snakefile with its files in another order has the jobs of the Snakefile itself."""
    snakefile = (ROOT / "Snakefile").read_text()
    includes = INCLUDE.findall(snakefile)
    assert len(includes) == len(RULES) - 1, "every file in rules/ is included once"
    assert rearranged(includes) != includes
    order = iter(rearranged(includes))
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "Snakefile").write_text(INCLUDE.sub(lambda _: next(order), snakefile))
    shutil.copytree(ROOT / "rules", copy / "rules")
    link_repository(copy, but="Snakefile")
    targets = ("all", "stage", "adopt", "--dry-run")
    arguments = (*targets, "--configfile", str(ROOT / "config/test.yaml"))
    plain, other = (
        snakemake(*arguments, folder=checkout, snakefile=file)
        for file in (ROOT / "Snakefile", copy / "Snakefile")
    )
    assert plain.returncode == other.returncode == 0, other.stdout + other.stderr
    assert job_counts(plain.stdout) == job_counts(other.stdout)


def test_targets_that_no_other_target_asks_for(checkout: Path) -> None:
    """A model hub and a tracker: each checkpoint is published, each training tracked."""
    config = read_config(ROOT / "config/test.yaml") | {
        "publish": {"repo": "owner/{model}", "every": "checkpoint"},
        "track": ["tensorboard"],
    }
    (checkout / "hub.yaml").write_text(yaml.safe_dump(config))
    done = snakemake("published", "tracked", "-n", "--configfile", "hub.yaml", folder=checkout)
    assert done.returncode == 0, done.stdout + done.stderr
    jobs = job_counts(done.stdout)
    models = config["models"].values()
    steps = [len(model.get("posttrain") or model["pretrain"]["checkpoints"]) for model in models]
    assert jobs["publish"] == sum(steps) and jobs["track"] == len(steps)
    nothing = str(ROOT / "config/test.yaml")
    done = snakemake("published", "-n", "--configfile", nothing, folder=checkout)
    assert done.returncode != 0
    assert "error: no section `publish` in the configuration" in done.stdout + done.stderr
