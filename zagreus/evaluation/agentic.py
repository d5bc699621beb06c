"""The 100 frozen cases of tool use of Nesso2: which calls an answer makes, and whether they pass.

Rules and cases are those of the authors (reference/README.md).
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zagreus.errors import InputError
from zagreus.evaluation.items import Item
from zagreus.evaluation.tool_calls import answer_text
from zagreus.languages import find_language

CATEGORIES: tuple[str, ...] = ("single", "par_same", "par_diff", "multiarg", "disamb")
CATEGORIES += ("missing", "unavail", "notool", "obs", "multistep")
LANGUAGES = ("IT", "EN")
# The most new tokens of an answer.
MAX_TOKENS = {"obs": 320, "multistep": 320, "notool": 320}
DEFAULT_MAX_TOKENS = 260

_THINK = re.compile(r"<think>.*?</think>", re.DOTALL)
_BLOCK = re.compile(r"<tool_call>(.*?)(?:</tool_call>|\Z)", re.DOTALL)
_BARE = re.compile(r'\{\s*"name"\s*:\s*"[^"]*"\s*,\s*"arguments"\s*:')
_NAME = re.compile(r'"name"\s*:\s*"([^"]+)"')


@dataclass(frozen=True)
class Call:
    """A call of a tool: its name and arguments."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


def read_cases(path: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return (the tools, the cases) of the frozen file.

    Raises:
        InputError: a case of an unknown category or language, or two of one id.
    """
    content = json.loads(path.read_text(encoding="utf-8"))
    ids = Counter(case["id"] for case in content["cases"])
    for case in content["cases"]:
        if case["cat"] not in CATEGORIES or case["lang"] not in LANGUAGES or ids[case["id"]] > 1:
            raise InputError(f"{path}: case {case['id']}: unknown category or language, or twice")
    return content["tools"], content["cases"]


def agentic_items(path: Path, language: str) -> list[Item]:
    """Return the cases in one language as items.

    `id, category, messages, tools, spec, max_tokens`; `tools` and `spec` are JSON.

    Raises:
        InputError: no cases in that language, or a bad file.
    """
    code = find_language(language).two.upper()
    tools, cases = read_cases(path)
    own = [case for case in cases if case["lang"] == code]
    if not own:
        raise InputError(f"{path}: no case in '{language}', expected one of eng, ita")
    return [
        {
            "id": case["id"],
            "category": case["cat"],
            "messages": case["messages"],
            "tools": json.dumps(tools, ensure_ascii=False),
            "spec": json.dumps(case["spec"], ensure_ascii=False),
            "max_tokens": MAX_TOKENS.get(case["cat"], DEFAULT_MAX_TOKENS),
        }
        for case in own
    ]


def tool_calls(answer: str, names: bool = True) -> list[Call]:
    """Return the calls of an answer: of every `<tool_call>` block, else of bare JSON objects.

    Args:
        answer: as the model wrote it; what lies between think tags is dropped.
        names: whether a block that is no JSON counts by the name in it, without arguments.
    """
    text = _THINK.sub("", answer)
    blocks = _BLOCK.findall(text)
    if blocks:
        calls = [_call_of(block, names) for block in blocks]
        return [call for call in calls if call is not None]
    calls, start, decoder = [], 0, json.JSONDecoder()
    while match := _BARE.search(text, start):
        start = match.end()
        try:
            value, start = decoder.raw_decode(text, match.start())
        except ValueError:
            continue
        calls.append(_call(value))
    return [call for call in calls if call is not None]


def passes(case: Mapping[str, Any], answer: str) -> bool:
    """Return whether an answer passes its case."""
    calls = tool_calls(answer)
    text = _THINK.sub("", answer).strip()
    category, spec = case["cat"], case["spec"]
    if category in ("single", "par_same", "par_diff", "disamb"):
        return _called(calls, spec)
    if category == "multiarg":
        return _called(calls, spec) and _arguments(calls, spec)
    if category == "missing":
        return not any(_made_up(call, spec) for call in calls)
    if category == "unavail":
        return not calls
    if category in ("notool", "obs"):
        gold = spec.get("gold") if isinstance(spec, Mapping) else None
        if gold:
            return not calls and gold.lower() in text.lower()
        return not calls and (category == "obs" or len(text.split()) >= 2)
    if category == "multistep":
        if spec["next"] is None:
            return not calls
        return spec["next"] in {call.name for call in calls}
    raise InputError(f"case {case['id']}: unknown category '{category}'")


def case_results(document: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """Return whether an answer passes its case, and whether it ends (`process_results`)."""
    text, ended = answer_text(results)
    case = {
        "id": document["id"],
        "cat": document["category"],
        "spec": json.loads(document["spec"]),
    }
    return {"passed": float(passes(case, text)), "ends_turn": float(ended)}


def _call_of(block: str, names: bool) -> Call | None:
    """Return the call of a block; of one that is no JSON, the name alone where names count."""
    try:
        return _call(json.loads(block))
    except ValueError:
        match = _NAME.search(block) if names else None
        return Call(match.group(1)) if match else None


def _call(value: Any) -> Call | None:
    if not isinstance(value, Mapping):
        return None
    name, arguments = value.get("name", value.get("tool")), value.get("arguments")
    if not isinstance(name, str):
        return None
    return Call(name, arguments if isinstance(arguments, Mapping) else {})


def _called(calls: Sequence[Call], spec: Mapping[str, Any]) -> bool:
    return {call.name for call in calls} == set(spec["tools"]) and len(calls) == spec["n"]


def _arguments(calls: Sequence[Call], spec: Mapping[str, Any]) -> bool:
    """Return whether the first call of the tool has the keys, and the number where one is asked."""
    if "argkeys" in spec:
        name, keys = spec["argkeys"]
        first = next((call for call in calls if call.name == name), None)
        if first is None or not set(keys) <= set(first.arguments):
            return False
    if spec.get("intarg"):
        name, key, number = spec["intarg"]
        first = next((call for call in calls if call.name == name), None)
        return first is not None and str(first.arguments.get(key)) in (f"{number}", f"{number}.0")
    return True


def _made_up(call: Call, spec: Mapping[str, Any]) -> bool:
    """Return whether a call has a value for the field that the user did not give."""
    if call.name != spec["tool"]:
        return False
    value = str(call.arguments.get(spec["fabricate_field"]) or "")
    return "@" in value if spec["tool"] == "send_email" else bool(value.strip())
