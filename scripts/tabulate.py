"""Write a run's tables from its manifests.

The program walks from the named manifests back through their inputs. Two identical runs have the
same tables, byte for byte, except jobs.csv, throughput.csv and plan.csv: these three hold time,
memory and speed.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from zagreus.atomic import atomic_folder
from zagreus.errors import run
from zagreus.manifest import write_manifest
from zagreus.reporting import (
    agentic,
    contamination,
    distillation,
    exports,
    items,
    jobs,
    left_out,
    owners,
    paired,
    plan_vs_actual,
    published,
    replication,
    signal,
    tables,
    throughput,
)
from zagreus.reporting.lineage import Lineage


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "manifests",
        nargs="+",
        type=Path,
        help="manifests of kind scores, samples, model and contamination",
    )
    parser.add_argument(
        "--models",
        type=json.loads,
        required=True,
        help=(
            "JSON list of the models in order: {name, title, kind: "
            "base|posttrained|baseline, languages, parent, checkpoints, mixture}"
        ),
    )
    parser.add_argument(
        "--tasks", type=json.loads, required=True, help="JSON: the evaluation data set of each task"
    )
    parser.add_argument(
        "--plan",
        type=json.loads,
        required=True,
        help=(
            "JSON: {models: {base model: {recipe, steps}}, where planned peak_flops and mfu, "
            "config: what the plan reads of the config}"
        ),
    )
    parser.add_argument(
        "--reference",
        type=Path,
        required=True,
        help="folder of the published tables, with tables.csv that lists them",
    )
    parser.add_argument(
        "--benchmarks",
        type=Path,
        required=True,
        help="folder of Snakemake's benchmark files, RULE/JOB.tsv; may be incomplete",
    )
    parser.add_argument(
        "--output", type=Path, required=True, help="folder to write the tables into"
    )
    args = parser.parse_args()

    lineage = Lineage(args.manifests)
    owners.check_owners(lineage)
    scores = tables.score_table(lineage, args.models)
    training = tables.training_table(lineage, args.models)
    tokens = tables.token_table(lineage)
    answers = list(items.all_answers(lineage))
    cases = agentic.agentic_table(lineage, answers, args.tasks, args.reference)
    contaminated = contamination.contaminated_items(lineage)
    made = {
        "scores": scores,
        "training": training,
        "tokens": tokens,
        "mixture": tables.mixture_table(args.models, tokens, training),
        "models": tables.model_table(lineage, args.models, tokens),
        "contradictions": replication.contradiction_table(args.reference),
        "replication": replication.replication_table(
            args.reference,
            scores,
            {model["name"]: model["checkpoints"] for model in args.models},
            cases,
        ),
        "agentic": cases,
        "paired": paired.paired_table(answers, args.models),
        "signal": signal.signal_table(scores),
        "left_out": left_out.left_out_table(lineage),
        "exports": exports.export_table(lineage),
        "contamination": contamination.contamination_table(lineage, contaminated),
        "contaminated_items": contaminated,
        "clean_scores": contamination.clean_scores(
            lineage, contaminated, answers, args.models, args.tasks
        ),
    }
    distilled = distillation.distillation_table(lineage)
    if len(distilled):  # a run without a distillation has the tables that it always had
        made["distillation"] = distilled
    for model in args.models:
        if model["kind"] != "baseline":
            columns = published.reference_columns(args.reference, model["name"])
            made[f"published_{model['name']}"] = published.published_table(
                scores, model, args.models, columns
            )

    with atomic_folder(args.output) as folder:
        for name, frame in made.items():
            tables.write_csv(frame, folder / f"{name}.csv")
        tables.write_csv(exports.speed_table(lineage), folder / "export_speeds.csv")
        timed = jobs.job_table(lineage, args.benchmarks)
        tables.write_csv(timed, folder / "jobs.csv")
        took = throughput.throughput_table(lineage, timed, args.plan)
        tables.write_csv(took, folder / "throughput.csv")
        tables.write_csv(
            plan_vs_actual.plan_table(lineage, timed, took, args.plan["config"]),
            folder / "plan.csv",
        )
    write_manifest(
        args.output / "manifest.json",
        kind="tables",
        name="tables",
        inputs=args.manifests,
        outputs=[args.output / f"{name}.csv" for name in made],
        packages=["pandas"],
    )


if __name__ == "__main__":
    run(main)
