"""What a dry-run shows after an artifact was adopted.

What comes after it, and nothing of what would have come before it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT, job_counts, snakemake

from zagreus.config.long_form import read_config

SETUP = {"wheelhouse", "environment", "download", "total"}


@pytest.fixture
def after(checkout: Path) -> Callable[..., dict[str, int]]:
    """Return a function that adopts artifacts (their files are empty here) and gives the jobs that
    a target needs then, set-up apart.
    """

    def run(target: str, entries: dict[str, Any], checkpoints: list[int]) -> dict[str, int]:
        config = read_config(ROOT / "config.yaml")
        config |= {
            "software": "venv",
            "adopt": entries,
        }  # --touch is a run, which with images would ask for Apptainer
        config["models"]["ita"]["pretrain"]["checkpoints"] = checkpoints
        for source in config["sources"].values():
            source["tasks"] = 1
        (checkout / "adopt.yaml").write_text(yaml.safe_dump(config))
        listed = snakemake("--configfile", "adopt.yaml", "--summary", "adopt", folder=checkout)
        assert listed.returncode == 0, listed.stderr
        for line in listed.stdout.splitlines()[1:]:
            output = checkout / line.split("\t")[0]
            output.parent.mkdir(parents=True, exist_ok=True)
            output.touch()
        touched = snakemake(
            "--configfile", "adopt.yaml", "--touch", "--forceall", "adopt", folder=checkout
        )
        assert touched.returncode == 0, touched.stderr
        done = snakemake(target, "--dry-run", "--configfile", "adopt.yaml", folder=checkout)
        assert done.returncode == 0, done.stdout + done.stderr
        return {
            rule: count
            for rule, count in job_counts(done.stdout).items()
            if rule not in SETUP and rule != target
        }

    return run


def test_after_a_published_model_nothing_is_trained_for_those_made_from_it(
    after: Callable[..., dict[str, int]],
) -> None:
    jobs = after(
        "nesso-agentic",
        {"models/ita/775000": {"repo": "giux78/zagreus-0.4B-ita", "revision": "main"}},
        [775000],
    )
    assert {"pretrain", "render_recipe", "convert", "tokenize", "adopt_model"}.isdisjoint(jobs)
    assert jobs["posttrain"] == 1 and jobs["evaluate"] == 8


def test_after_a_checkpoint_only_the_segments_behind_it_are_trained(
    after: Callable[..., dict[str, int]],
) -> None:
    entries = {
        "pretrain/ita/305000": {"folder": str(ROOT / "docs"), "origin": "trained by another run"}
    }
    jobs = after("results/zagreus/pretrain/ita/775000.json", entries, [305000, 460000, 775000])
    assert jobs == {
        "list_files": 4,
        "fetch": 4,
        "tokenize": 4,
        "index_tokens": 4,
        "tokenize_heldout": 4,
        "render_recipe": 2,
        "pretrain": 2,
    }


def test_a_checkpoint_is_converted_without_tokens(after: Callable[..., dict[str, int]]) -> None:
    """Its logits are compared on held-out text, of the first task of each source."""
    entries = {
        "pretrain/ita/305000": {"folder": str(ROOT / "docs"), "origin": "trained by another run"}
    }
    jobs = after("results/zagreus/models/ita/305000/manifest.json", entries, [305000])
    assert jobs == {"list_files": 4, "fetch": 4, "convert": 1}


def test_adopted_tokens_are_not_made_again(after: Callable[..., dict[str, int]]) -> None:
    entries = {
        f"tokens/{source}": {"folder": str(ROOT / "docs"), "origin": "made with datatrove"}
        for source in ("fineweb", "fineweb2_ita")
    }
    jobs = after("results/zagreus/pretrain/ita/305000.json", entries, [305000])
    assert jobs == {
        "list_files": 2,
        "fetch": 2,
        "tokenize": 2,
        "index_tokens": 4,
        "tokenize_heldout": 2,
        "render_recipe": 1,
        "pretrain": 1,
    }
