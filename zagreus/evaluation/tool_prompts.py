"""Prompts with tools: the model's chat template lists them, or a system message does."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from zagreus.evaluation.templates import render

# A whole description: templates read its parts.
_PROBE = {
    "type": "function",
    "function": {
        "name": "probe",
        "description": "Return a value.",
        "parameters": {
            "type": "object",
            "properties": {"value": {"type": "string", "description": "The value."}},
            "required": ["value"],
        },
    },
}
HERMES = Path(__file__).parents[2] / "recipes/templates/hermes.jinja"


def lists_tools(tokenizer: Any, where: str) -> bool:
    """Return whether a tokenizer's chat template writes the tools that it is given."""
    messages = [{"role": "user", "content": "QUESTION"}]
    listed = render(tokenizer, messages, where, tools=[_PROBE])
    return listed != render(tokenizer, messages, where)


def render_with_tools(
    tokenizer: Any,
    messages: Sequence[Mapping[str, str]],
    tools: Sequence[Mapping[str, Any]],
    where: str,
    listed: bool,
) -> str:
    """Return messages through a tokenizer's chat template, with the tools that may be called.

    A template that ignores tools gets them in a system message, as our own template
    (recipes/templates/hermes.jinja) writes them. A template that can think does not.

    Args:
        tokenizer: of transformers.
        messages: `role` and `content` of each.
        tools: in OpenAI's form.
        where: the model's folder, and what the messages are of, for the error.
        listed: whether the template lists tools (`lists_tools`).

    Raises:
        InputError: the template refuses the messages.
    """
    if not listed:
        return render(tokenizer, with_tool_list(messages, tools), where, enable_thinking=False)
    return render(tokenizer, messages, where, tools=list(tools), enable_thinking=False)


def with_tool_list(
    messages: Sequence[Mapping[str, str]], tools: Sequence[Mapping[str, Any]]
) -> list[dict[str, str]]:
    """Return messages that begin with a system message that lists the tools."""
    own = [dict(message) for message in messages]
    before = own.pop(0)["content"] + "\n\n" if own and own[0]["role"] == "system" else ""
    return [{"role": "system", "content": before + _tool_list(tools)}, *own]


def _tool_list(tools: Sequence[Mapping[str, Any]]) -> str:
    environment = jinja2.Environment()
    # As transformers sets it: jinja's own escapes what HTML would read.
    environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
    template = environment.from_string(HERMES.read_text(encoding="utf-8"))
    module: Any = template.make_module({"tools": tools, "messages": [{"role": ""}]})
    return str(module.tool_list())
