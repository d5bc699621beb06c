"""Print what a ladder predicts: its rungs, leave-one-out, the larger model's loss.

Where that model is trained already, its own held-out loss stands beside the prediction.

    python scripts/ladder.py --fit results/ladder/ladder/manifest.json \
        --log results/ladder/pretrain/ita/800.jsonl
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from zagreus.errors import run
from zagreus.manifest import read_manifest
from zagreus.scaling.log import heldout_loss


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--fit", type=Path, required=True, help="manifest that fit_ladder wrote")
    parser.add_argument(
        "--log", type=Path, required=True, help="training log of the larger model; may be missing"
    )
    arguments = parser.parse_args()

    fit = read_manifest(arguments.fit, "ladder")
    rows = pd.read_csv(arguments.fit.with_name("rungs.csv"))
    rows["inside"] = rows["inside"].map({True: "yes", False: "no"})
    print("Rungs: held-out loss in nats a token; `predicted` from the other rungs alone")
    print(rows.to_string(index=False, float_format=lambda value: f"{value:.4f}"))
    law, prediction = fit["law"], fit["prediction"]
    print(
        f"\nloss(N, D) = {law['E']:.3f} + {law['A']:.4g} / N^{law['alpha']:.3f} + "
        f"{law['B']:.4g} / D^{law['beta']:.3f}, within {law['deviation']:.2%}"
    )
    print(fit["leave_one_out"]["summary"])
    print(
        f"{prediction['model']}, {prediction['parameters']:,} parameters on "
        f"{prediction['tokens']:,} tokens: loss {prediction['loss']:.4f}, "
        f"{prediction['level']:.0%} interval {prediction['low']:.4f} to {prediction['high']:.4f}"
        + ("" if fit["leave_one_out"]["holds"] else "; do not rely on it: leave-one-out fails")
    )
    if arguments.log.exists():
        loss = heldout_loss(arguments.log, prediction["step"])
        where = "inside" if prediction["low"] <= loss <= prediction["high"] else "outside"
        print(f"{prediction['model']} as trained: loss {loss:.4f}, {where} the interval")


if __name__ == "__main__":
    run(main)
