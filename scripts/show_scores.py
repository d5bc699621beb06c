"""Print a run's scores in short, its checks, and the path of its report.

    python -P scripts/show_scores.py results/demo

The last check compares the run's artifacts with the reference hashes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from zagreus.errors import InputError, run
from zagreus.proof.reference import check, product_version, read_reference, reference_path
from zagreus.proof.run_folder import RunFolder
from zagreus.reporting.summary import check_lines, score_lines
from zagreus.reporting.tables import read_tables


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path, help="folder of the run")
    args = parser.parse_args()

    tables: dict[str, pd.DataFrame] = read_tables(args.results / "tables", ("scores", "models"))
    print(
        *score_lines(tables["scores"]),
        "",
        *check_lines(tables["scores"], tables["models"]),
        "",
        sep="\n",
    )
    print(*reference_lines(args.results), sep="\n")
    print(f"report: {args.results / 'report.html'}")


def reference_lines(results: Path) -> list[str]:
    """Return how many artifacts equal the reference; nothing here keeps a run from being shown."""
    try:
        folder = RunFolder(results)
        return check(folder, read_reference(reference_path(folder)), product_version()).lines()
    except (InputError, OSError) as error:
        return [f"not compared with the reference: {error}"]


if __name__ == "__main__":
    run(main)
