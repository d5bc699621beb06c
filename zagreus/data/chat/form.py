"""What form the rows of a chat data set have, as far as its entry in the configuration says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PREFERENCES = ("chitchat_preferences",)  # readers of packages that make preferences


def form_of_chat(entry: Mapping[str, Any]) -> str | None:
    """Return `sft` or `dpo`; None where only the file says it (rows of ours, without `columns`).

    Args:
        entry: of the configuration's `chat` section.
    """
    if entry.get("kind") == "package":
        return "dpo" if entry.get("reader") in PREFERENCES else "sft"
    columns = entry.get("columns")
    if not isinstance(columns, Mapping):
        return None
    return "dpo" if "chosen" in columns else "sft"


def form_of_row(row: Mapping[str, Any]) -> str:
    """Return `sft` or `dpo` of a valid chat row."""
    return "dpo" if "chosen" in row else "sft"
