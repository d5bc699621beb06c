"""Draw a run's figures from its tables.

Each figure is an SVG with a CSV of its numbers beside it. index.json lists the figures and their
captions."""

from __future__ import annotations

import argparse
from pathlib import Path

from zagreus.atomic import atomic_folder
from zagreus.errors import run
from zagreus.manifest import write_manifest
from zagreus.reporting.figures import draw
from zagreus.reporting.tables import read_tables


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--tables", type=Path, required=True, help="folder of the tables that tabulate wrote"
    )
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        help="folder to write the figures into; what was there goes",
    )
    args = parser.parse_args()

    names = ("scores", "training", "models", "replication", "exports")
    tables = read_tables(args.tables, names)
    with atomic_folder(args.output) as folder:
        drawn = draw(tables, folder)
    write_manifest(
        args.output / "manifest.json",
        kind="figures",
        name="figures",
        inputs=[args.tables / f"{name}.csv" for name in names],
        outputs=[
            (args.output / figure.file).with_suffix(suffix)
            for figure in drawn
            for suffix in (".svg", ".csv")
        ],
        packages=["matplotlib"],
    )


if __name__ == "__main__":
    run(main)
