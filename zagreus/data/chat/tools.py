"""Tools and tool calls of chat rows, in the form of OpenAI's messages.

A tool is `{type: function, function: {name, description, parameters}}` with a JSON schema. A call
is `{type: function, function: {name, arguments}}` with a mapping. Chat templates expect both.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

from zagreus.records import RowError, shortened

FUNCTION = "function"


def check_tools(tools: Any, name: str) -> None:
    """Raise `RowError` unless the tools of a row are functions with JSON schemas."""
    if not isinstance(tools, list):
        raise RowError("no list of tools", f"{name}: tools {shortened(tools)}, expected a list")
    for tool in tools:
        function = tool.get(FUNCTION) if isinstance(tool, dict) else None
        if not _is_function(function) or not isinstance(function.get("parameters", {}), dict):
            expected = "expected {type: function, function: {name, parameters}}"
            raise RowError("no tool", f"{name}: tool {shortened(tool)}, {expected}")


def check_calls(message: Mapping[str, Any], name: str) -> bool:
    """Return whether a message calls tools; raise `RowError` for a call that is none."""
    calls = message.get("tool_calls", [])
    if calls and message["role"] != "assistant":
        raise RowError("call by another role", f"{name}: role '{message['role']}' calls a tool")
    for call in calls if isinstance(calls, list) else [calls]:
        function = call.get(FUNCTION) if isinstance(call, dict) else None
        if not _is_function(function) or not isinstance(function.get("arguments"), dict):
            expected = "expected {type: function, function: {name, arguments: {...}}}"
            raise RowError("no tool call", f"{name}: tool call {shortened(call)}, {expected}")
    return bool(calls)


def check_results(messages: Sequence[Mapping[str, Any]], name: str) -> None:
    """Raise `RowError` for a result of a tool that nobody called, or more results than calls."""
    open_calls = 0
    for message in messages:
        if message["role"] == "tool":
            open_calls -= 1
            if open_calls < 0:
                raise RowError("result without a call", f"{name}: a result that no call asked for")
        else:
            open_calls = len(message.get("tool_calls", ()))


def read_tools(value: Any, where: str) -> list[dict[str, Any]]:
    """Return the tools of a column: a list, or JSON text of one; functions may stand bare.

    Raises:
        RowError: the column holds no tools.
    """
    tools = _json(value, where)
    if not isinstance(tools, list):
        raise RowError("no list of tools", f"{where}: tools {shortened(value)}, expected a list")
    parsed = [without_nulls(_json(tool, where)) for tool in tools]
    return [
        tool if not isinstance(tool, dict) or FUNCTION in tool else _wrapped(tool)
        for tool in parsed
    ]


def read_calls(value: Any, where: str) -> list[dict[str, Any]]:
    """Return the calls of a message; arguments may be JSON text, the call's id is left out.

    Raises:
        RowError: the calls cannot be read.
    """
    if not isinstance(value, list):
        raise RowError("no tool call", f"{where}: {shortened(value)}, expected a list of calls")
    calls = []
    for call in value:
        function = call.get(FUNCTION, call) if isinstance(call, Mapping) else None
        if not isinstance(function, Mapping) or "name" not in function:
            raise RowError("no tool call", f"{where}: {shortened(call)}, expected a call")
        arguments = without_nulls(_json(function.get("arguments") or {}, where))
        calls.append(_wrapped({"name": function["name"], "arguments": arguments}))
    return calls


def without_nulls(value: Any) -> Any:
    """Return a value without keys that are null: parquet gives every struct all keys."""
    if isinstance(value, Mapping):
        return {key: without_nulls(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [without_nulls(inner) for inner in value]
    return value


def _is_function(function: Any) -> TypeGuard[dict[str, Any]]:
    """Return whether a value is a mapping with a name."""
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        return False
    return bool(function["name"].strip())


def _wrapped(function: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": FUNCTION, FUNCTION: dict(function)}


def _json(value: Any, where: str) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        problem = f"{where}: {shortened(value)}, expected JSON"
        raise RowError("tools that are no JSON", problem) from None
