"""Dry-runs of the real workflow: what would run, without containers, network or GPU."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SEEN = (
    "config",
    "config.yaml",
    "recipes",
    "envs",
    "containers",
    "scripts",
    "zagreus",
    "reference",
    "CITATION.cff",
    "Snakefile",
)


def link_repository(folder: Path, *, but: str = "") -> None:
    """Let an empty working directory see the repository's files, and none of its results."""
    for name in SEEN:
        if name != but:
            (folder / name).symlink_to(ROOT / name)


def snakemake(
    *arguments: str, folder: Path, snakefile: Path = ROOT / "Snakefile"
) -> subprocess.CompletedProcess[str]:
    """Run Snakemake on this repository's Snakefile, or on a copy, with everything that it writes
    beneath `folder`.
    """
    command = [
        sys.executable,
        "-m",
        "snakemake",
        "--snakefile",
        str(snakefile),
        "--directory",
        str(folder),
        "--cores",
        "2",
        *arguments,
    ]
    environment = os.environ | {"NO_COLOR": "1", "PYTHONPATH": str(snakefile.parent)}
    return subprocess.run(
        command, capture_output=True, text=True, cwd=folder, env=environment, timeout=300
    )


def job_counts(output: str) -> dict[str, int]:
    """Return the number of jobs of each rule from the table that ends a dry-run."""
    table = output[output.index("Job stats:") :]
    return {
        name: int(count)
        for name, count in re.findall(r"^(\S+) +(\d+)$", table.split("\n\n")[0], re.MULTILINE)
    }


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """An empty working directory that sees the repository's configuration and recipes, and none of
    its results.
    """
    link_repository(tmp_path)
    return tmp_path


@pytest.fixture
def dry_run(checkout: Path) -> Callable[..., dict[str, int]]:
    """Return a function that dry-runs targets of a configuration and gives the jobs per rule."""

    def run(config: str, *targets: str, arguments: tuple[str, ...] = ()) -> dict[str, int]:
        done = snakemake(
            *targets, "--dry-run", *arguments, "--configfile", str(ROOT / config), folder=checkout
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return job_counts(done.stdout)

    return run
