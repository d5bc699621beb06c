r"""Find the evaluation items that stand in a training text.

The output is a parquet file of the items with a matching n-gram, and its manifest.

    python -P scripts/contamination.py --name ita_bible/00000/ita \
        --text results/demo/sources/ita_bible/00000.json \
        --items results/demo/evaluation_data/choice_ita.json \
        --output results/demo/contamination/ita_bible/00000/ita.json
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import pyarrow
import pyarrow.parquet

from zagreus.atomic import atomic_file
from zagreus.data.contamination import (
    LONGEST,
    ROWS,
    SHORTEST,
    TEMPLATE_ITEMS,
    ItemTable,
    Scan,
    read_items,
)
from zagreus.data.training_text import documents
from zagreus.errors import run
from zagreus.manifest import write_manifest


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--name",
        required=True,
        help="what is read: SOURCE/PART or chat/DATASET, and /LANGUAGE of the items, or /all",
    )
    parser.add_argument(
        "--text",
        required=True,
        nargs="+",
        type=Path,
        help="manifests of the text (kind source), or of the conversations (kind chat)",
    )
    parser.add_argument(
        "--items",
        required=True,
        nargs="+",
        type=Path,
        help="manifests of the evaluation data in use",
    )
    parser.add_argument(
        "--output", required=True, type=Path, help="the manifest; the parquet file goes beside it"
    )
    arguments = parser.parse_args()

    started = time.process_time()
    table = ItemTable([item for manifest in arguments.items for item in read_items(manifest)])
    built = time.process_time()
    scan = Scan(table)
    for text in arguments.text:
        scan.read(documents(text))
    spent = time.process_time() - built
    rows = scan.rows()
    path = arguments.output.with_suffix(".parquet")
    with atomic_file(path) as partial:
        pyarrow.parquet.write_table(
            pyarrow.Table.from_pylist(rows, schema=ROWS), partial, compression="zstd"
        )
    counts = {
        manifest.stem: {"items": 0, "checked": 0, "overlapping": 0} for manifest in arguments.items
    }
    for item, ngrams in zip(table.items, table.ngrams, strict=True):
        counts[item.dataset]["items"] += 1
        counts[item.dataset]["checked"] += int(ngrams > 0)
    for row in rows:
        counts[row["dataset"]]["overlapping"] += 1
    print(
        f"{arguments.name}: {scan.words:,} words, {len(table.hashes):,} n-grams of "
        f"{len(table.items):,} items, {len(rows):,} items overlap"
    )
    write_manifest(
        arguments.output,
        kind="contamination",
        name=arguments.name,
        inputs=[*arguments.text, *arguments.items],
        outputs=[path],
        packages=["numpy", "pyarrow"],
        circumstances={
            "table_cpu_seconds": round(built - started, 3),
            "cpu_nanoseconds_per_word": round(1e9 * spent / max(1, scan.words)),
        },
        ngram=[SHORTEST, LONGEST],
        template_items=TEMPLATE_ITEMS,
        words=scan.words,
        overlap=counts,
    )


if __name__ == "__main__":
    run(main)
