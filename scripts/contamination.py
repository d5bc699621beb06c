r"""Find the evaluation items that stand in a training text.

The output is a parquet file of the items with a matching n-gram, and its manifest.

    python -P scripts/contamination.py --name ita_bible/00000/ita \
        --text results/demo/sources/ita_bible/00000.json \
        --items results/demo/evaluation_data/choice_ita.json \
        --output results/demo/contamination/ita_bible/00000/ita.json
"""

from __future__ import annotations

import time

from zagreus.data.contamination import (
    LONGEST,
    ROWS,
    SHORTEST,
    TEMPLATE_ITEMS,
    ItemTable,
    Scan,
    read_items,
)
from zagreus.data.item_search import overlap_counts, search_parser, write_rows
from zagreus.data.training_text import documents
from zagreus.errors import run
from zagreus.manifest import write_manifest


def main() -> None:
    arguments = search_parser(__doc__).parse_args()

    started = time.process_time()
    table = ItemTable([item for manifest in arguments.items for item in read_items(manifest)])
    built = time.process_time()
    scan = Scan(table)
    for text in arguments.text:
        scan.read(documents(text))
    spent = time.process_time() - built
    rows = scan.rows()
    path = arguments.output.with_suffix(".parquet")
    write_rows(path, rows, ROWS)
    checked = zip(
        (item.dataset for item in table.items), (n > 0 for n in table.ngrams), strict=True
    )
    counts = overlap_counts(arguments.items, checked, rows)
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
