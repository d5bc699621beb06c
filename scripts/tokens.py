"""Print the token counts of a run's sources.

The table has files, documents, tokens, tokens per word and byte, size and seconds.

python -P scripts/tokens.py --benchmarks results/demo/benchmarks results/demo/tokens/*.json
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from zagreus.errors import run
from zagreus.reporting.jobs import job_table
from zagreus.reporting.lineage import Lineage
from zagreus.reporting.tables import source_table, token_table


def main() -> None:
    """Parse the arguments and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "manifests", nargs="+", type=Path, help="manifests of kind token_index or tokens"
    )
    parser.add_argument(
        "--benchmarks",
        required=True,
        type=Path,
        help="folder of Snakemake's benchmark files, for the seconds",
    )
    arguments = parser.parse_args()
    lineage = Lineage(arguments.manifests)
    table = source_table(token_table(lineage), job_table(lineage, arguments.benchmarks))
    total = table[
        ["files", "documents", "tokens", "words", "text_bytes", "shard_bytes", "seconds"]
    ].sum()
    table = pd.concat(
        [table, pd.DataFrame([{"source": "all", "language": "", **total}])], ignore_index=True
    )
    shown = pd.DataFrame(
        {
            "source": table["source"],
            "language": table["language"],
            "files": table["files"].map("{:,.0f}".format),
            "documents": table["documents"].map("{:,.0f}".format),
            "tokens": table["tokens"].map("{:,.0f}".format),
            "tokens/word": (table["tokens"] / table["words"]).map("{:.2f}".format),
            "tokens/byte": (table["tokens"] / table["text_bytes"]).map("{:.3f}".format),
            "MB": (table["shard_bytes"] / 1e6).map("{:,.1f}".format),
            "seconds": table["seconds"].map("{:,.1f}".format),
        }
    )
    print(shown.to_string(index=False))


if __name__ == "__main__":
    run(main)
