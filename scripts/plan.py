r"""Print the tokens, operations, hours, bytes and money of the missing part of a run.

The formulas are in docs/plan.md.

python -P scripts/plan.py --request plan.json --results results/demo \
    --benchmarks results/demo/benchmarks
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from zagreus.errors import run
from zagreus.plan.estimate import (
    Source,
    Training,
    fetch_jobs,
    job_plan,
    recipe_vocabulary,
    source_plan,
    training_plan,
)
from zagreus.plan.geometry import geometries
from zagreus.plan.targets import Targets
from zagreus.plan.totals import Totals, totals
from zagreus.recipe.read import read_recipe


def main() -> None:
    """Parse the arguments, make the plan, print it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--request",
        required=True,
        type=Path,
        help="JSON: `config`, the whole configuration; `files`, those that rules without a formula "
        "make, by RULE/NAME; `targets`, what each target asks for (zagreus/plan/targets.py)",
    )
    parser.add_argument("--results", required=True, type=Path, help="the run's folder")
    parser.add_argument(
        "--benchmarks",
        required=True,
        type=Path,
        help="the run's folder of Snakemake's benchmark files",
    )
    arguments = parser.parse_args()
    # A file: an argument of a shell line must be shorter than 131,072 bytes, Linux's limit, which
    # ten languages exceed.
    request = json.loads(arguments.request.read_text(encoding="utf-8"))
    config, files = request["config"], request["files"]
    trainings = training_plan(config, arguments.results)
    sources = source_plan(config, arguments.results)
    jobs = [
        fetch_jobs(sources, arguments.benchmarks),
        *job_plan(config, files, arguments.benchmarks),
    ]
    parts = Targets(config, sources, trainings, files, arguments.benchmarks)
    ranks = config["cluster"]["nodes"] * config["cluster"]["ranks_per_node"]
    print_sources(sources)
    print_trainings(trainings, ranks)
    print_geometries(config, arguments.results)
    print("\nBy stage")
    print_totals("stage", parts.stages(), config)
    print("\nBy target, each alone: what two of them share stands in both")
    print_totals(
        "target", {name: parts.target(need) for name, need in request["targets"].items()}, config
    )
    whole = totals(config, sources, trainings, jobs)
    print("\nStill to be done, in all")
    for line in whole.lines(config):
        print(f"  {line}")


def print_sources(sources: Sequence[Source]) -> None:
    """Print the text: what is there, what is asked."""
    rows = [
        {
            "source": source.name,
            "language": source.language,
            "tasks": f"{source.made}/{source.tasks}",
            "tokens there": number(source.tokens) if source.made else "",
            "tokens asked": number(source.needed_tokens) if source.needed_tokens else "",
            "epochs": "" if source.epochs is None else f"{source.epochs:.2f}",
            "CPU-hours": f"{source.cpu_hours:,.1f}" if source.made < source.tasks else "",
            "text, GB": f"{source.text_bytes / 1e9:,.1f}",
            "shards, GB": f"{source.shard_bytes / 1e9:,.1f}",
        }
        for source in sources
    ]
    print("Text (tokens asked: by the model that sees most of it; there: once it is tokenized)")
    print(pd.DataFrame(rows).to_string(index=False))


def print_trainings(trainings: Sequence[Training], ranks: int) -> None:
    """Print the pre-training that is missing."""
    rows = [
        {
            "model": training.name,
            "from": training.origin or "",
            "parameters": number(training.parameters),
            "steps": f"{training.steps:,}",
            "tokens": number(training.tokens),
            "FLOPs": f"{training.flops:.2e}",
            "rank-hours": short(training.rank_hours),
            f"hours on {ranks}": short(
                None if training.rank_hours is None else training.rank_hours / ranks
            ),
            "speed": training.basis,
            "checkpoints, GB": f"{training.disk_bytes / 1e9:,.1f}",
            "rolling, GB": f"{training.rolling_bytes / 1e9:,.1f}",
        }
        for training in trainings
    ]
    print("\nPre-training")
    print(pd.DataFrame(rows).to_string(index=False))


def print_geometries(config: Mapping[str, Any], results: Path) -> None:
    """Print what GPUs would take for each recipe, where the config names an accelerator."""
    if "accelerator" not in config.get("plan", {}):
        return
    rows = []
    for file in dict.fromkeys(
        model["pretrain"]["recipe"] for model in config["models"].values() if "pretrain" in model
    ):
        recipe = read_recipe(file)
        for geometry in geometries(config, recipe, recipe_vocabulary(config, results, recipe)):
            setup, prediction = geometry.prediction.setup, geometry.prediction
            rows.append(
                {
                    "recipe": Path(file).stem,
                    "geometry": geometry.what,
                    "GPUs": setup.world_size,
                    "micro batch": setup.micro_batch,
                    "recompute": "yes" if setup.recompute else "",
                    "ZeRO-1": "yes" if setup.zero else "",
                    "GB a GPU": f"{prediction.memory.total / 1e9:.0f}"
                    f"{'' if geometry.fits else ', too many'}",
                    "ms a step": f"{prediction.step.total * 1e3:,.0f}",
                    "tokens/s a GPU": f"{prediction.tokens_per_second:,.0f}",
                    "MFU": f"{prediction.mfu:.0%}",
                }
            )
    print(
        f"\nPredicted on {config['plan']['accelerator']} by a roofline, not measured (docs/plan.md)"
    )
    print(pd.DataFrame(rows).to_string(index=False))


def print_totals(
    what: str, totals_by_name: Mapping[str, Totals], config: Mapping[str, Any]
) -> None:
    """Print what targets or stages still cost, a row for each."""
    prices = config.get("plan", {}).get("prices")
    rows = []
    for name, part in totals_by_name.items():
        row = {
            what: name,
            "jobs": f"{part.jobs:,}",
            "tokens made": number(part.made_tokens) if part.made_tokens else "",
            "trained on": number(part.tokens) if part.tokens else "",
            "FLOPs": f"{part.flops:.2e}" if part.flops else "",
            "rank-hours": short(part.rank_hours),
            "CPU-hours": short(part.cpu_hours),
            "longest path, hours": short(
                None if part.longest is None else part.longest + part.around
            ),
            "one training at a time": short(None if part.row is None else part.row + part.around),
            "disk at the end, GB": short(part.disk_bytes / 1e9),
            "at the most": short(part.peak_bytes / 1e9),
        }
        if prices:
            cost = part.cost(prices)
            row[f"cost, {prices['currency']}"] = "not known" if cost is None else f"{cost:,.0f}"
        rows.append(row | {"not timed yet": " ".join(part.untimed)})
    print(pd.DataFrame(rows).to_string(index=False))


def number(value: float) -> str:
    """Return a large number for people: three digits and K, M, G or T."""
    for scale, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "K")):
        if value >= scale:
            return f"{value / scale:.3g} {unit}"
    return f"{value:.3g}"


def short(value: float | None) -> str:
    """Return hours or gigabytes with three digits; nothing for 0, `not known` for None."""
    if value is None:
        return "not known"
    return (f"{value:,.0f}" if value >= 100 else f"{value:.3g}") if value else ""


if __name__ == "__main__":
    run(main)
