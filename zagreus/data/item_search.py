"""What the two searches for evaluation items in training text share: command line, rows, counts.

`scripts/contamination.py` searches for n-grams, `scripts/near_duplicates.py` for other words.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from zagreus.atomic import atomic_file


def search_parser(description: str | None) -> argparse.ArgumentParser:
    """Return the command line of a search: `--name`, `--text`, `--items`, `--output`."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
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
    return parser


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]], schema: pyarrow.Schema) -> None:
    """Write the items of a search as parquet, whole or not at all."""
    with atomic_file(path) as partial:
        pyarrow.parquet.write_table(
            pyarrow.Table.from_pylist(rows, schema=schema), partial, compression="zstd"
        )


def overlap_counts(
    manifests: Iterable[Path],
    items: Iterable[tuple[str, bool]],
    rows: Iterable[Mapping[str, Any]],
) -> dict[str, dict[str, int]]:
    """Return by data set how many items there are, how many were checked, how many overlap.

    Args:
        manifests: of the data sets.
        items: data set of each item, and whether the search could check the item.
        rows: the items that the text holds, with their `dataset`.
    """
    counts = {manifest.stem: {"items": 0, "checked": 0, "overlapping": 0} for manifest in manifests}
    for dataset, checked in items:
        counts[dataset]["items"] += 1
        counts[dataset]["checked"] += int(checked)
    for row in rows:
        counts[row["dataset"]]["overlapping"] += 1
    return counts
