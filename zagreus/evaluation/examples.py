"""Examples for few-shot prompts that a data set does not set apart itself.

Rows of one of its splits, named one by one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from zagreus.errors import InputError
from zagreus.evaluation.items import Item

SPLIT = "dev"


def set_apart(
    splits: Mapping[str, Sequence[Item]], selection: Mapping[str, Any], name: str
) -> dict[str, Sequence[Item]]:
    """Return the splits with the named rows moved to a split of their own, `dev`, in the order in
    which they are named.

    Args:
        splits: the items by split.
        selection: `{split, column, ids}`: the split that the rows are taken from, the column that
            names them, and its values.
        name: the data set, for messages.

    Raises:
        InputError: the split or column is not there, or a value stands in no row or in several.
    """
    split, column, order = (
        selection["split"],
        selection["column"],
        [str(value) for value in selection["ids"]],
    )
    if split not in splits:
        raise InputError(
            f"{name}: no split '{split}' to take examples from, it has {', '.join(splits)}"
        )
    if any(column not in row for row in splits[split]):
        raise InputError(
            f"{name}: no column '{column}' in the split '{split}', which names its examples"
        )
    chosen: dict[str, Item] = {}
    rest = []
    for row in splits[split]:
        key = str(row[column])
        if key not in order:
            rest.append(row)
        elif key in chosen:
            raise InputError(
                f"{name}: two rows of the split '{split}' have the {column} '{key}', expected one "
                "example"
            )
        else:
            chosen[key] = row
    for key in order:
        if key not in chosen:
            raise InputError(
                f"{name}: no row of the split '{split}' has the {column} '{key}', expected the "
                "example that it names"
            )
    return {**splits, split: rest, SPLIT: [chosen[key] for key in order]}
