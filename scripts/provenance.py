"""Write the RO-Crate of a run.

The crate names each file's inputs, script, software and sha256.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from zagreus.atomic import atomic_folder
from zagreus.errors import run
from zagreus.reporting.lineage import Lineage
from zagreus.reporting.ro_crate import write_crate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "manifests", nargs="+", type=Path, help="manifests of kind scores, samples and model"
    )
    parser.add_argument("--name", required=True, help="name of the run")
    parser.add_argument("--config", type=Path, required=True, help="configuration file of the run")
    parser.add_argument("--tables", type=Path, required=True, help="folder that tabulate wrote")
    parser.add_argument("--figures", type=Path, required=True, help="folder that plot wrote")
    parser.add_argument("--report", type=Path, required=True, help="the report")
    parser.add_argument(
        "--output", type=Path, required=True, help="folder of the crate; what was there goes"
    )
    args = parser.parse_args()

    here = Path(".")
    workflow = [
        Path("Snakefile"),
        *(
            path
            for pattern in ("rules/*.smk", "scripts/*.py")
            for path in sorted(here.glob(pattern))
        ),
    ]
    with atomic_folder(args.output) as folder:
        write_crate(
            folder,
            name=args.name,
            lineage=Lineage(args.manifests),
            citation=Path("CITATION.cff"),
            workflow=workflow,
            config=args.config,
            results={
                "": [args.report],
                "tables": sorted(args.tables.glob("*.csv")),
                "figures": sorted(args.figures.glob("*.svg")),
            },
        )


if __name__ == "__main__":
    run(main)
