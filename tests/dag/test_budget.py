"""The limits of a plan stop a run before its first job, and a flag lifts them."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from conftest import ROOT, snakemake


@pytest.fixture
def limited(checkout: Path) -> Path:
    """A configuration that needs more disk than it allows.

    Without images, which a run would ask for first.
    """
    config = yaml.safe_load((ROOT / "config/demo.yaml").read_text()) | {"software": "venv"}
    config["plan"]["max_disk_tb"] = 1e-6
    path = checkout / "limited.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


# `adopt` has nothing to adopt here: a run of one job that does nothing.
def test_a_run_beyond_its_limits_stops_with_the_figure(limited: Path) -> None:
    done = snakemake("adopt", "--configfile", str(limited), folder=limited.parent)
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode != 0 and len(lines) == 1, done.stderr
    assert lines[0].startswith("error: plan.max_disk_tb: the run needs ") and lines[0].endswith(
        "--config over_budget=True it starts all the same"
    )


def test_the_flag_starts_it_all_the_same(limited: Path) -> None:
    done = snakemake(
        "adopt", "--configfile", str(limited), "--config", "over_budget=True", folder=limited.parent
    )
    assert done.returncode == 0, done.stderr
    assert snakemake("plan", "--configfile", str(limited), folder=limited.parent).returncode == 0, (
        "a plan has no budget"
    )
