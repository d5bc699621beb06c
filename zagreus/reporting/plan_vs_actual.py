"""What was planned of each stage against what it used: hours, bytes, money.

Circumstance, as jobs.csv: no two runs agree.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd

from zagreus.plan.estimate import source_plan, training_plan
from zagreus.reporting.jobs import rule_of
from zagreus.reporting.lineage import Lineage
from zagreus.reporting.tables import log_lines, training_logs

COLUMNS = ["stage", "measure", "planned", "used"]
# The rules whose jobs make up a stage.
STAGES = {
    "text": ("list_files", "fetch", "deduplicate", "clean"),
    "tokens": ("tokenizer", "tokenize", "index_tokens", "tokenize_heldout"),
    "pretrain": ("render_recipe", "pretrain", "convert"),
    "posttrain": ("fetch_chat", "posttrain"),
    "evaluate": (
        *("fetch_evaluation", "fetch_model", "evaluate", "sample"),
        *("contamination", "near_duplicates"),
    ),
    "export": ("export_reference", "export"),
}


def plan_table(
    lineage: Lineage, jobs: pd.DataFrame, throughput: pd.DataFrame, config: Mapping[str, Any]
) -> pd.DataFrame:
    """Return one row per stage and measure: COLUMNS.

    Args:
        lineage: the run's manifests.
        jobs: the table of jobs.
        throughput: the table of that name, for the ranks' hours.
        config: of the run's configuration `models`, `sources`, `tokenizer` and, where it has one,
            `plan`.

    Returns:
        `rank_hours` of pre-training, `cpu_hours` (CPU time of the stage's jobs), `wall_hours` (of
        the jobs, one after the other; of the run, from its first job's start to its last one's
        end), `bytes` (of what is kept) and `cost`. Planned is the whole run with the formulas and
        assumptions of `bin/zagreus plan` before anything was there; empty where no formula covers
        it.
    """
    planned, used = _planned(lineage, config), _used(lineage, jobs, throughput)
    prices = config.get("plan", {}).get("prices")
    if prices:
        for figures in (planned, used):
            hours = figures.get(("pretrain", "rank_hours"))
            if hours is not None:
                figures["pretrain", "cost"] = hours * prices["rank_hour"]
            if ("tokens", "cpu_hours") in figures:
                figures["tokens", "cost"] = figures["tokens", "cpu_hours"] * prices["cpu_hour"]
    order = [
        (stage, measure)
        for stage in (*STAGES, "run")
        for measure in ("rank_hours", "cpu_hours", "wall_hours", "bytes", "cost")
    ]
    rows = [
        (*key, planned.get(key), used.get(key)) for key in order if key in planned or key in used
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def _planned(lineage: Lineage, config: Mapping[str, Any]) -> dict[tuple[str, str], float]:
    """Return the figures of the plan by stage and measure."""
    made = next(iter(lineage.of_kind("tokenizer")), None)
    if made is not None:  # a vocabulary that is known only once it is there
        config = {
            **config,
            "tokenizer": {"kind": "train", "vocab_size": made.manifest["vocab_size"]},
        }
    with tempfile.TemporaryDirectory() as nothing:
        sources, trainings = (
            source_plan(config, Path(nothing)),
            training_plan(config, Path(nothing)),
        )
    figures: dict[tuple[str, str], float] = {
        ("text", "bytes"): sum(source.text_bytes for source in sources),
        ("tokens", "bytes"): sum(source.shard_bytes for source in sources),
        ("tokens", "cpu_hours"): sum(source.cpu_hours for source in sources),
        ("pretrain", "bytes"): sum(training.disk_bytes for training in trainings),
    }
    hours = [training.rank_hours for training in trainings if training.rank_hours is not None]
    if len(hours) == len(trainings):
        figures["pretrain", "rank_hours"] = sum(hours)
        figures["pretrain", "wall_hours"] = sum(hours) / _ranks(lineage)
    return figures


def _used(
    lineage: Lineage, jobs: pd.DataFrame, throughput: pd.DataFrame
) -> dict[tuple[str, str], float]:
    """Return what was used, by stage and measure."""
    figures: dict[tuple[str, str], float] = {}
    stage_of = {rule: stage for stage, rules in STAGES.items() for rule in rules}
    for rule, rule_jobs in jobs.groupby("rule", sort=False):
        if rule in stage_of:
            for measure, column in (("cpu_hours", "cpu_seconds"), ("wall_hours", "seconds")):
                if rule_jobs[column].notna().any():
                    key = (stage_of[rule], measure)
                    figures[key] = figures.get(key, 0.0) + rule_jobs[column].sum() / 3600
    for path, node in lineage.nodes.items():
        stage = stage_of.get(rule_of(lineage, path) or "")
        if stage:
            size = sum(item["bytes"] for item in node.manifest["outputs"])
            figures[stage, "bytes"] = figures.get((stage, "bytes"), 0) + size
    hours = throughput.loc[throughput["rule"] == "pretrain", "hours"].sum()
    if hours:
        figures["pretrain", "rank_hours"] = hours
    runs = [node.run for node in lineage.nodes.values() if node.run]
    if runs:
        ends = [datetime.fromisoformat(run["finished"]) for run in runs]
        starts = [
            end - timedelta(seconds=run["seconds"]) for end, run in zip(ends, runs, strict=True)
        ]
        figures["run", "wall_hours"] = (max(ends) - min(starts)).total_seconds() / 3600
    return figures


def _ranks(lineage: Lineage) -> int:
    """Return how many ranks trained together, by the last log that says so."""
    logs = [log for node in lineage.of_kind("checkpoint") for log in training_logs(node)]
    counts = [line["ranks"] for log in logs for line in log_lines(log)[:1] if "ranks" in line]
    return counts[-1] if counts else 1
