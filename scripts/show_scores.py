"""Print where a run's report is, whether it learned, and its scores in short.

`python -P scripts/show_scores.py results/demo`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from zagreus.errors import run
from zagreus.reporting.summary import score_lines, verdict_lines
from zagreus.reporting.tables import read_tables


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path, help="folder of the run")
    args = parser.parse_args()

    tables: dict[str, pd.DataFrame] = read_tables(args.results / "tables", ("scores", "models"))
    print(
        *score_lines(tables["scores"]),
        "",
        *verdict_lines(tables["scores"], tables["models"]),
        "",
        sep="\n",
    )
    print(f"report: {args.results / 'report.html'}")


if __name__ == "__main__":
    run(main)
