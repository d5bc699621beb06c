"""The data hub's own conversion of data sets to parquet: its revision and its paths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

# Where the hub keeps the conversion of every data set.
REVISION = "refs/convert/parquet"
# The subset of a data set that has only one.
SUBSET = "default"


def converted_files(splits: Sequence[str] | Mapping[str, str]) -> dict[str, str]:
    """Return the file of each split in the hub's conversion: SUBSET/SPLIT/0000.parquet.

    Args:
        splits: `SPLIT` or `SUBSET/SPLIT`; as a mapping, by the names that task files use.
    """
    named = (
        splits
        if isinstance(splits, Mapping)
        else {split.rpartition("/")[2]: split for split in splits}
    )
    return {
        name: f"{split if '/' in split else f'{SUBSET}/{split}'}/0000.parquet"
        for name, split in named.items()
    }
