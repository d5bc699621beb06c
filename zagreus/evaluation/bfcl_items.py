"""BFCL v4 (Berkeley Function Calling Leaderboard, Apache-2.0) as the package bfcl-eval carries it.

The single-turn categories whose functions are Python's. The wheel is read as a zip.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

from zagreus.evaluation.items import Item

_QUESTIONS = "bfcl_eval/data/BFCL_v4_{}.json"
_ANSWERS = "bfcl_eval/data/possible_answer/BFCL_v4_{}.json"
# Reader and category: those with possible answers, and those that ask whether to call at all.
CHECKED: Mapping[str, str] = {
    "bfcl_simple": "simple_python",
    "bfcl_multiple": "multiple",
    "bfcl_parallel": "parallel",
    "bfcl_parallel_multiple": "parallel_multiple",
    "bfcl_live_simple": "live_simple",
    "bfcl_live_multiple": "live_multiple",
    "bfcl_live_parallel": "live_parallel",
    "bfcl_live_parallel_multiple": "live_parallel_multiple",
}
WHETHER: Mapping[str, str] = {
    "bfcl_irrelevance": "irrelevance",
    "bfcl_live_irrelevance": "live_irrelevance",
    "bfcl_live_relevance": "live_relevance",
}
# BFCL's names of types that JSON Schema has another name for.
SCHEMA_TYPES: Mapping[str, str] = {
    "dict": "object",
    "float": "number",
    "tuple": "array",
    "any": "string",
}


def bfcl(wheel: zipfile.ZipFile, category: str) -> Mapping[str, Sequence[Item]]:
    """Return the items of a category.

    `id, category, messages, tools, functions, gold`; the last three are JSON. `functions` are as
    in the package, `tools` the same in OpenAI's form, `gold` the possible answers (`[]` without).
    """
    checked = category in CHECKED.values()
    gold = (
        {row["id"]: row["ground_truth"] for row in _rows(wheel, _ANSWERS.format(category))}
        if checked
        else {}
    )
    return {
        "test": [
            {
                "id": row["id"],
                "category": category,
                "messages": row["question"][0],
                "tools": _dump([_tool(function) for function in row["function"]]),
                "functions": _dump(row["function"]),
                "gold": _dump(gold[row["id"]] if checked else []),
            }
            for row in _rows(wheel, _QUESTIONS.format(category))
        ]
    }


def _rows(wheel: zipfile.ZipFile, file: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in wheel.read(file).decode("utf-8").splitlines() if line]


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _tool(function: Mapping[str, Any]) -> dict[str, Any]:
    """Return a function in OpenAI's form, its types those of JSON Schema."""
    return {
        "type": "function",
        "function": {**function, "parameters": _schema(function["parameters"])},
    }


def _schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return a schema with the types of JSON Schema, at every depth.

    A parameter may itself be called `type`.
    """
    made = dict(schema)
    if isinstance(made.get("type"), str):
        made["type"] = SCHEMA_TYPES.get(made["type"], made["type"])
    if isinstance(made.get("properties"), Mapping):
        made["properties"] = {name: _schema(value) for name, value in made["properties"].items()}
    if isinstance(made.get("items"), Mapping):
        made["items"] = _schema(made["items"])
    return made
