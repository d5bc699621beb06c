"""Rules hold no logic: the reader of the configuration is the library's (zagreus/workflow)."""

from __future__ import annotations

import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT, job_counts, link_repository, snakemake

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
