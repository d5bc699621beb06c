"""Metrics of an answer that calls a tool. Standard library alone: exports are scored with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from zagreus.evaluation.instructions import called_tool, read_call

# What the model writes before it ends its turn comes from lm-eval without the token that ends it;
# `TurnModel` puts this in its place.
END_OF_TURN = "\x03"


def answer_text(results: Sequence[str]) -> tuple[str, bool]:
    """Return the text of an answer, and whether it ended its turn."""
    text, end, _ = results[0].partition(END_OF_TURN)
    return text, bool(end)


def tool_results(document: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """Return whether an answer ends, holds a well-formed call, calls the right tool, and is the
    right call: that tool with the reference's arguments, names and values.
    """
    text, ended = answer_text(results)
    call = read_call(text)
    return {
        "ends_turn": float(ended),
        "valid_call": float(call is not None),
        "right_tool": float(call is not None and call["name"] == document["tool"]),
        "right_call": float(call is not None and call == read_call(document["reference"])),
    }


def tool_label(document: Mapping[str, Any], response: str) -> str | None:
    """Return the tool that an answer calls, None where it holds no well-formed call."""
    return called_tool(answer_text([response])[0])
