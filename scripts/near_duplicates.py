r"""Find the evaluation items that a training text holds in other words.

The output is a parquet file of the items with a near-duplicate, and its manifest.

    python -P scripts/near_duplicates.py --name chat/agentic/all --threshold 0.6 \
        --text results/demo/chat/agentic.json \
        --items results/demo/evaluation_data/tools_ita.json \
        --output results/demo/near_duplicates/chat/agentic/all.json
"""

from __future__ import annotations

import time

from zagreus.data.contamination import read_items
from zagreus.data.item_search import overlap_counts, search_parser, write_rows
from zagreus.data.near_duplicates import LETTERS, ROWS, Hasher, NearScan, PassageTable
from zagreus.data.training_text import documents
from zagreus.errors import run
from zagreus.manifest import write_manifest


def main() -> None:
    parser = search_parser(__doc__)
    parser.add_argument(
        "--threshold",
        required=True,
        type=float,
        help="share of a passage's character n-grams that makes a near-duplicate, 0 to 1",
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
    write_rows(path, rows, ROWS)
    checked = zip((item.dataset for item in items), map(bool, table.checked), strict=True)
    counts = overlap_counts(arguments.items, checked, rows)
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
