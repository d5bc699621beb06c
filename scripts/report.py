"""Write a run's report.

The report is one self-contained HTML page, made from tables, figures and manifests.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from zagreus.atomic import atomic_file
from zagreus.errors import run
from zagreus.reporting.lineage import Lineage
from zagreus.reporting.owners import check_owners
from zagreus.reporting.page import render


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "manifests", nargs="+", type=Path, help="manifests of kind scores, samples and model"
    )
    parser.add_argument("--name", required=True, help="name of the run, for the title")
    parser.add_argument("--tables", type=Path, required=True, help="folder that tabulate wrote")
    parser.add_argument("--figures", type=Path, required=True, help="folder that plot wrote")
    parser.add_argument("--output", type=Path, required=True, help="the HTML file to write")
    args = parser.parse_args()

    lineage = Lineage(args.manifests)
    check_owners(lineage)
    page = render(args.name, lineage, args.tables, args.figures)
    with atomic_file(args.output) as partial:
        partial.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    run(main)
