"""The plan of a run against what it took: tokens, hours, speed and utilization.

Circumstance, as jobs.csv: no two runs agree.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

import pandas as pd

from zagreus.recipe.cost import flops_per_token
from zagreus.recipe.ladder import recipe_of
from zagreus.reporting.lineage import Lineage
from zagreus.reporting.tables import log_lines, training_logs

COLUMNS = [
    "rule",
    "model",
    "jobs",
    "planned_tokens",
    "tokens",
    "planned_hours",
    "hours",
    "tokens_per_second",
    "flops_per_second",
]
COLUMNS += ["planned_mfu", "mfu"]


def throughput_table(lineage: Lineage, jobs: pd.DataFrame, plan: Mapping[str, Any]) -> pd.DataFrame:
    """Return one row per pre-trained model and per other rule: COLUMNS.

    Args:
        lineage: the run's manifests, for training logs.
        jobs: the table of jobs.
        plan: `models`, {name: {recipe, steps}}, and `rung` of a rung of the ladder; where the
            configuration has them `peak_flops` of a rank and `mfu`, the share of it that is planned
            with.

    Returns:
        Hours are of ranks (GPUs) for pre-training and of jobs for the rest. What is planned is of
        the whole model, with the formulas of `bin/zagreus plan`; planned hours need `peak_flops`,
        and so does `mfu` where the log has none. Other rules that process tokens have
        those, and their speed while they do: a core's for `tokenize`, a rank's for `posttrain`, a
        job's for `evaluate`.
    """
    rows = [_training(lineage, name, entry, plan) for name, entry in plan["models"].items()]
    for rule, rule_jobs in jobs.groupby("rule", sort=False):
        if rule != "pretrain":
            work = _work(lineage, str(rule))
            row: dict[str, Any] = {
                "rule": rule,
                "jobs": len(rule_jobs),
                "hours": rule_jobs["seconds"].sum() / 3600,
            }
            if work.seconds:
                speed = work.operations / work.seconds
                row |= {
                    "tokens": work.tokens,
                    "tokens_per_second": work.tokens / work.seconds,
                    "flops_per_second": speed or None,
                }
                row |= {
                    "mfu": speed / plan["peak_flops"] if speed and plan.get("peak_flops") else None
                }
            rows.append(row)
    return pd.DataFrame(rows, columns=COLUMNS).astype(
        {"planned_tokens": "Int64", "tokens": "Int64"}
    )


def _training(
    lineage: Lineage, name: str, entry: Mapping[str, Any], plan: Mapping[str, Any]
) -> dict[str, Any]:
    recipe, peak = recipe_of(entry), plan.get("peak_flops")
    nodes = [node for node in lineage.of_kind("checkpoint") if node.manifest["model"] == name]
    logs = [log_lines(log) for node in nodes for log in training_logs(node)]
    starts = [line for log in logs for line in log if line.get("event") == "start"]
    steps = {line["step"]: line for log in logs for line in log if "loss" in line}
    ranks = starts[-1].get("ranks", 1) if starts else 1
    vocabulary = recipe.model.model_config.vocab_size
    if vocabulary < 0:
        vocabulary = next((node.manifest["vocab_size"] for node in lineage.of_kind("tokenizer")), 0)
    flops = flops_per_token(recipe.model.model_config, vocabulary, recipe.tokens.sequence_length)
    planned = entry["steps"] * recipe.tokens_per_step
    speeds = [line["tokens_per_second"] for line in steps.values() if line.get("tokens_per_second")]
    shares = [line["mfu"] for line in steps.values() if line.get("mfu")]
    speed = median(speeds) if speeds else None
    share = median(shares) if shares else speed * flops / ranks / peak if speed and peak else None
    return {
        "rule": "pretrain",
        "model": name,
        "jobs": len(nodes),
        "planned_tokens": planned,
        "tokens": len(steps) * recipe.tokens_per_step,
        "planned_hours": planned * flops / (peak * plan["mfu"]) / 3600 if peak else None,
        "hours": ranks * sum(line.get("seconds") or 0.0 for line in steps.values()) / 3600,
        "tokens_per_second": speed,
        "flops_per_second": None if speed is None else speed * flops,
        "planned_mfu": plan.get("mfu"),
        "mfu": share,
    }


@dataclass
class Work:
    """Tokens that a rule's jobs processed, in how many seconds of a core or rank, with how many
    floating-point operations.
    """

    tokens: int = 0
    seconds: float = 0.0
    operations: float = 0.0


def _work(lineage: Lineage, rule: str) -> Work:
    """Return what the circumstances of a rule's artifacts say of tokens.

    Nothing for a rule that processes none.

    Operations: 2 for each parameter and token that a model reads, 6 where it is trained; attention
    is left out.
    """
    work = Work()
    kind = {"tokenize": "tokens", "evaluate": "scores", "posttrain": "model"}.get(rule)
    for node in lineage.of_kind(kind) if kind else ():
        run = node.run
        if rule == "tokenize" and run.get("tokens_per_second"):
            work.tokens += node.manifest["tokens"]
            work.seconds += node.manifest["tokens"] / run["tokens_per_second"]
        elif rule == "evaluate" and "tokens_per_task" in run:
            tokens = sum(run["tokens_per_task"].values())
            work.tokens += tokens
            work.seconds += sum(run["seconds_per_task"].values())
            work.operations += 2.0 * run["parameters"] * tokens
        elif rule == "posttrain" and "train_tokens" in run:
            work.tokens += run["train_tokens"]
            work.seconds += run["train_seconds"]
            work.operations += 6.0 * node.manifest["parameters"] * run["train_tokens"]
    return work
