"""Print what a run needs before it runs: tokens, operations, hours, bytes and money of what is missing. The formulas are in docs/plan.md.

    python -P scripts/plan.py --config "$CONFIG_AS_JSON" --files '{"evaluate": ["results/demo/evaluate/..."]}' \\
        --results results/demo --benchmarks results/demo/benchmarks
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from zagreus.errors import run
from zagreus.plan import Jobs, Source, Training, job_plan, source_plan, training_plan
from zagreus.totals import totals


def main() -> None:
    """Parse the arguments, make the plan, print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True, type=json.loads, help="the whole configuration, as JSON")
    parser.add_argument("--files", required=True, type=json.loads, help="the files that rules without a formula make, by rule, as JSON")
    parser.add_argument("--results", required=True, type=Path, help="the run's folder")
    parser.add_argument("--benchmarks", required=True, type=Path, help="the run's folder of Snakemake's benchmark files")
    given = parser.parse_args()
    config = given.config
    trainings = training_plan(config, given.results)
    sources = source_plan(config, given.results)
    jobs = job_plan(config, given.files, given.benchmarks)
    ranks = config["cluster"]["nodes"] * config["cluster"]["ranks_per_node"]
    print_sources(sources)
    print_trainings(trainings, ranks)
    print_jobs(jobs)
    whole = totals(config, sources, trainings, jobs)
    print("\nStill to be done, in all")
    for line in whole.lines(config):
        print(f"  {line}")


def print_sources(sources: Sequence[Source]) -> None:
    """Print the text: what is there, what is asked."""
    rows = [
        {
            "source": each.name,
            "language": each.language,
            "tasks": f"{each.made}/{each.tasks}",
            "tokens there": number(each.tokens) if each.made else "",
            "tokens asked": number(each.asked) if each.asked else "",
            "epochs": "" if each.epochs is None else f"{each.epochs:.2f}",
            "CPU-hours": f"{each.cpu_hours:,.1f}" if each.made < each.tasks else "",
            "text, GB": f"{each.text_bytes / 1e9:,.1f}",
            "shards, GB": f"{each.shard_bytes / 1e9:,.1f}",
        }
        for each in sources
    ]
    print("Text (tokens asked: by the model that sees most of it; there: once it is tokenized)")
    print(pd.DataFrame(rows).to_string(index=False))


def print_trainings(trainings: Sequence[Training], ranks: int) -> None:
    """Print the pre-training that is missing."""
    rows = [
        {
            "model": each.name,
            "from": each.origin or "",
            "parameters": number(each.parameters),
            "steps": f"{each.steps:,}",
            "tokens": number(each.tokens),
            "FLOPs": f"{each.flops:.2e}",
            "rank-hours": hours(each.rank_hours),
            f"hours on {ranks}": hours(None if each.rank_hours is None else each.rank_hours / ranks),
            "speed": each.basis,
            "checkpoints, GB": f"{each.disk_bytes / 1e9:,.1f}",
            "rolling, GB": f"{each.rolling_bytes / 1e9:,.1f}",
        }
        for each in trainings
    ]
    print("\nPre-training")
    print(pd.DataFrame(rows).to_string(index=False))


def print_jobs(jobs: Sequence[Jobs]) -> None:
    """Print the other stages, by what their jobs took so far."""
    rows = [{"rule": each.rule, "jobs": each.missing, "hours": hours(each.hours) if each.missing else ""} for each in jobs]
    print("\nOther jobs (hours by the jobs of this run that were timed)")
    print(pd.DataFrame(rows).to_string(index=False))


def number(value: float) -> str:
    """Return a large number for people: three digits and K, M, G or T."""
    for scale, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "K")):
        if value >= scale:
            return f"{value / scale:.3g} {unit}"
    return f"{value:.3g}"


def hours(value: float | None) -> str:
    """Return hours with a digit behind the point where they are few; `not timed` for None."""
    if value is None:
        return "not timed"
    return f"{value:,.0f}" if value >= 100 else f"{value:,.2f}"


if __name__ == "__main__":
    run(main)
