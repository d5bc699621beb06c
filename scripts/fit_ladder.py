r"""Fit loss(N, D) to the rungs of a ladder, and predict the loss of a larger model.

Each rung is also predicted from the others: leave one out.

    python scripts/fit_ladder.py results/ladder/pretrain/ladder-*/*.json \
        --recipe recipes/pretrain/ladder.yaml --target '{"model": "ita", "steps": 800}' \
        --output results/ladder/ladder/manifest.json
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from dataclasses import asdict
from pathlib import Path

from zagreus.atomic import atomic_file
from zagreus.errors import run
from zagreus.manifest import write_manifest
from zagreus.recipe.read import read_recipe
from zagreus.scaling.law import fit, leave_one_out
from zagreus.scaling.rungs import read_rung, runs_of, target_parameters
from zagreus.scaling.verdict import LEVEL, verdict

COLUMNS = ["rung", "parameters", "tokens", "loss", "fitted", "predicted", "low", "high", "inside"]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("rungs", nargs="+", type=Path, help="manifests of the rungs' checkpoints")
    parser.add_argument("--recipe", type=Path, required=True, help="recipe of the larger model")
    parser.add_argument(
        "--target", type=json.loads, required=True, help="JSON: the larger model's `model`, `steps`"
    )
    parser.add_argument(
        "--output", type=Path, required=True, help="the manifest; rungs.csv goes beside it"
    )
    arguments = parser.parse_args()

    rungs = [read_rung(manifest) for manifest in arguments.rungs]
    runs = runs_of(rungs)
    recipe = read_recipe(arguments.recipe)
    size = target_parameters(recipe, rungs[0].vocab_size)
    tokens = arguments.target["steps"] * recipe.tokens_per_step
    law, left_out = fit(runs), leave_one_out(runs, LEVEL)
    prediction = law.predict(size, tokens, LEVEL)
    rows = [
        {
            "rung": rung.name,
            "parameters": rung.parameters,
            "tokens": rung.tokens,
            "loss": rung.loss,
            "fitted": law.loss(rung.parameters, rung.tokens),
            "predicted": interval.loss,
            "low": interval.low,
            "high": interval.high,
            "inside": interval.holds(rung.loss),
        }
        for rung, interval in zip(rungs, left_out, strict=True)
    ]
    folder = arguments.output.parent
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_file(folder / "rungs.csv") as partial, open(partial, "w", newline="") as opened:
        writer = csv.DictWriter(opened, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    judged = verdict(rows)
    write_manifest(
        arguments.output,
        kind="ladder",
        name=arguments.target["model"],
        inputs=arguments.rungs,
        outputs=[folder / "rungs.csv"],
        packages=["numpy", "scipy"],
        law=law.constants() | {"deviation": law.deviation, "freedom": law.freedom},
        leave_one_out=judged,
        prediction={
            "model": arguments.target["model"],
            "step": arguments.target["steps"],
            "parameters": size,
            "tokens": tokens,
            "level": LEVEL,
            **asdict(prediction),
        },
    )
    print(judged["summary"], file=sys.stderr)


if __name__ == "__main__":
    run(main)
