"""Draw a ladder: its rungs, the fitted law, the prediction with its interval."""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib
import pandas as pd

from zagreus.atomic import atomic_file
from zagreus.errors import run
from zagreus.manifest import read_manifest
from zagreus.reporting import style
from zagreus.reporting.ladder import draw


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fit", type=Path, required=True, help="manifest that fit_ladder wrote")
    parser.add_argument("--output", type=Path, required=True, help="the SVG file")
    arguments = parser.parse_args()

    fit = read_manifest(arguments.fit, "ladder")
    rungs = pd.read_csv(arguments.fit.with_name("rungs.csv"))
    with atomic_file(arguments.output) as partial, matplotlib.rc_context(style.RC):
        draw(fit, rungs, partial)


if __name__ == "__main__":
    run(main)
