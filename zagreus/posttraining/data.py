"""Checks of the chat rows before a stage is trained on them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zagreus.errors import InputError
from zagreus.posttraining.chatml import TURN_END, TURN_START

# Axolotl finds a reply by rendering it after a placeholder and searching for its text: a reply whose text occurs in what stands
# before it ("user", "a", a bracket) is cut out at the wrong place.
PLACEHOLDER = f"{TURN_START}user\n[[dummy_message]]{TURN_END}\n{TURN_START}assistant\n"


def check_rows(path: Path, stage: str, recipe: dict[str, Any]) -> int:
    """Return the number of rows; raise `InputError` for a row that the stage cannot train on as it is meant.

    Args:
        path: JSON lines of chat rows.
        stage: `sft` (rows with `conversation`) or `dpo` (rows with `messages`, `chosen`, `rejected`).
        recipe: the recipe, whose `rl` and `field_...` must fit the stage and the rows.
    """
    if (recipe.get("rl") == "dpo") != (stage == "dpo"):
        raise InputError(f"stage '{stage}': the recipe has rl: {recipe.get('rl')}, expected {'dpo' if stage == 'dpo' else 'none'}")
    needed = {"id", "messages", "chosen", "rejected"} if stage == "dpo" else {"id", "conversation"}
    fields = {value for dataset in recipe["datasets"] for key, value in dataset.items() if key.startswith("field_")}
    if not fields <= needed:
        raise InputError(f"stage '{stage}': the recipe names the fields {sorted(fields)}, chat rows have {sorted(needed)}")
    rows = 0
    with open(path, encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            row = json.loads(line)
            if set(row) != needed:
                raise InputError(f"{path}, line {number}: keys {sorted(row)}, stage '{stage}' needs {sorted(needed)}")
            for side in ("chosen", "rejected") if stage == "dpo" else ():
                if row[side]["content"].strip() in PLACEHOLDER:
                    raise InputError(f"{path}, line {number}: {side} is '{row[side]['content']}', too short for Axolotl to find it again")
            messages = row["messages"] if stage == "dpo" else row["conversation"]
            if any(marker in message["content"] for message in messages for marker in (TURN_START, TURN_END)):
                raise InputError(f"{path}, line {number}: a message contains {TURN_START} or {TURN_END}")
            rows += 1
    if not rows:
        raise InputError(f"{path}: no rows")
    return rows


def check_validation_rows(recipe: Mapping[str, Any], rows: int, where: str, file: Path) -> None:
    """Raise `InputError` where the recipe holds out more rows than there are to train on.

    Args:
        recipe: in Axolotl's schema: `val_set_size` is a number of rows (1 and more) or a share.
        rows: the rows of the data set.
        where: the recipe's name.
        file: the data set, for the message.
    """
    asked = recipe.get("val_set_size") or 0
    if not isinstance(asked, int | float) or isinstance(asked, bool) or asked < 0:
        raise InputError(f"{where}: val_set_size: {asked!r}, expected a number of rows or a share of them")
    held_out = int(asked) if asked >= 1 else round(asked * rows)
    if held_out >= rows:
        raise InputError(
            f"{where}: val_set_size: {asked} leaves no row to train on, {file} has {rows:,}; expected fewer rows, or a share of them (0.05)"
        )
