r"""Find the evaluation items that a training text holds in other words.

The output is a parquet file of the items with a near-duplicate, and its manifest.

    python -P scripts/near_duplicates.py --name chat/agentic/all --threshold 0.6 \
        --text results/demo/chat/agentic.json \
        --items results/demo/evaluation_data/tools_ita.json \
        --output results/demo/near_duplicates/chat/agentic/all.json
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import pyarrow
import pyarrow.parquet

from zagreus.atomic import atomic_file
from zagreus.data.contamination import read_items
from zagreus.data.near_duplicates import LETTERS, ROWS, Hasher, NearScan, PassageTable
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
        "--threshold",
        required=True,
        type=float,
        help="share of a passage's character n-grams that makes a near-duplicate, 0 to 1",
    )
    parser.add_argument(
        "--output", required=True, type=Path, help="the manifest; the parquet file goes beside it"
    )
    arguments = parser.parse_args()

    hasher = Hasher()
    items = [item for manifest in arguments.items for item in read_items(manifest)]
    table = PassageTable(items, hasher)
    scan = NearScan(table, hasher, arguments.threshold)
    started = time.process_time()
    for text in arguments.text:
        scan.read(documents(text))
    spent = time.process_time() - started
    rows = scan.rows()
    path = arguments.output.with_suffix(".parquet")
    with atomic_file(path) as partial:
        pyarrow.parquet.write_table(
            pyarrow.Table.from_pylist(rows, schema=ROWS), partial, compression="zstd"
        )
    counts = {
        manifest.stem: {"items": 0, "checked": 0, "overlapping": 0} for manifest in arguments.items
    }
    for item, checked in zip(items, table.checked, strict=True):
        counts[item.dataset]["items"] += 1
        counts[item.dataset]["checked"] += int(checked)
    for row in rows:
        counts[row["dataset"]]["overlapping"] += 1
    print(
        f"{arguments.name}: {scan.documents:,} documents, {scan.words:,} words, {len(items):,} "
        f"items, {len(rows):,} items have a near-duplicate; {spent:.1f} s of CPU time"
    )
    write_manifest(
        arguments.output,
        kind="near_duplicates",
        name=arguments.name,
        inputs=[*arguments.text, *arguments.items],
        outputs=[path],
        packages=["datatrove", "numpy", "pyarrow"],
        circumstances={"documents_per_cpu_second": round(scan.documents / max(spent, 1e-9), 1)},
        letters=LETTERS,
        threshold=arguments.threshold,
        documents=scan.documents,
        words=scan.words,
        overlap=counts,
    )


if __name__ == "__main__":
    run(main)
