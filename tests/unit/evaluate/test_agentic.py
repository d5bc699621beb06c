"""The frozen cases of tool use: right answers pass, each wrong one fails."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from zagreus.errors import InputError
from zagreus.evaluation.agentic import (
    CATEGORIES,
    Call,
    passes,
    read_cases,
    read_published,
    table,
    tool_calls,
)

FOLDER = Path("reference/nesso2")
TOOLS, CASES = read_cases(FOLDER / "agentic_cases_100.json")
PUBLISHED = read_published(FOLDER / "published_cases.csv")


def call(name: str, **arguments: Any) -> str:
    content = json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False)
    return f"<tool_call>\n{content}\n</tool_call>"


def right(case: dict[str, Any]) -> str:
    """Return an answer that passes, from what the case asks for."""
    category, spec = case["cat"], case["spec"]
    if category in ("single", "par_same", "par_diff", "disamb", "multiarg"):
        keys = spec["argkeys"][1] if "argkeys" in spec else []
        arguments = dict.fromkeys(keys, "x")
        if spec.get("intarg"):
            arguments[spec["intarg"][1]] = spec["intarg"][2]
        names = [*spec["tools"], *spec["tools"][:1] * (spec["n"] - len(spec["tools"]))]
        return "\n".join(call(name, **arguments) for name in names)
    if category == "multistep" and spec["next"]:
        return call(spec["next"])
    if isinstance(spec, dict) and spec.get("gold"):
        return f"Ecco: {spec['gold'].upper()}."
    return "Non posso farlo."


def wrong(case: dict[str, Any]) -> dict[str, str]:
    """Return answers that must fail, by what is wrong."""
    category, spec, good = case["cat"], case["spec"], right(case)
    if category in ("single", "par_same", "par_diff", "disamb", "multiarg"):
        answers = {
            "nothing": "Certo!",
            "one more": good + call(spec["tools"][0]),
            "another tool": good.replace(spec["tools"][0], "no_tool"),
        }
        if "argkeys" in spec:
            answers["a key less"] = good.replace(f'"{spec["argkeys"][1][0]}"', '"other"')
        if spec.get("intarg"):
            number = spec["intarg"][2]
            answers["another number"] = good.replace(f": {number}", f": {number + 1}")
        return answers
    if category == "missing":
        value = "a@b.it" if spec["tool"] == "send_email" else "Roma"
        made_up = call(spec["tool"], **{spec["fabricate_field"]: value})
        return {"made up": made_up, "made up second": call("get_weather") + made_up}
    if category == "multistep":
        return {"wrong": call("no_tool") if spec["next"] else call("get_weather")} | (
            {"nothing": "Fatto."} if spec["next"] else {}
        )
    answers = {"a call": call("web_search", query="x"), "a call and the gold": good + call("x")}
    if category == "notool":
        answers["one word"] = "Sì"
    if isinstance(spec, dict) and spec.get("gold"):
        answers["no gold"] = "Non lo so proprio."
        answers["gold in thoughts"] = f"<think>{spec['gold']}</think> Non lo so."
    return answers


def test_the_frozen_cases() -> None:
    assert len(TOOLS) == 9 and len(CASES) == 100
    assert Counter(case["cat"] for case in CASES) == dict.fromkeys(CATEGORIES, 10)
    totals = {key: sum(int(row[key]) for row in PUBLISHED.values()) for key in ("v3", "v7", "v8")}
    assert totals == {"v3": 61, "v7": 61, "v8": 68}


@pytest.mark.parametrize("category", CATEGORIES)
def test_right_answers_pass_and_wrong_ones_fail(category: str) -> None:
    for case in (case for case in CASES if case["cat"] == category):
        assert passes(case, right(case)), case["id"]
        for what, answer in wrong(case).items():
            assert not passes(case, answer), (case["id"], what, answer)


ANSWERS: dict[str, tuple[str, list[Call]]] = {
    "a block": (call("f", a=1), [Call("f", {"a": 1})]),
    "tool for name": ('<tool_call>{"tool": "f", "arguments": {}}</tool_call>', [Call("f")]),
    "not closed": ('<tool_call>{"name": "f", "arguments": {}}', [Call("f")]),
    "cut JSON": ('<tool_call>{"name": "f", "arguments": {"a"</tool_call>', [Call("f")]),
    "no JSON and no name": ("<tool_call>f()</tool_call>", []),
    "bare": ('Ecco {"name": "f", "arguments": {"a": {"b": 2}}}.', [Call("f", {"a": {"b": 2}})]),
    "two bare": (
        '{"name": "f", "arguments": {}} {"name":"g","arguments":{}}',
        [Call("f"), Call("g")],
    ),
    "bare beside a block": ('{"name": "g", "arguments": {}}' + call("f"), [Call("f")]),
    "a name alone": ('{"name": "f"}', []),
    "in thoughts": (f"<think>{call('f')}</think>Ciao", []),
    "arguments as text": ('<tool_call>{"name": "f", "arguments": "a"}</tool_call>', [Call("f")]),
    "nothing": ("", []),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_calls_of_an_answer(name: str) -> None:
    answer, expected = ANSWERS[name]
    assert tool_calls(answer) == expected


def test_details_of_the_rules() -> None:
    by_id = {case["id"]: case for case in CASES}
    arguments = {"origin": "Milano", "destination": "Tokyo", "date": "x"}
    for value, expected in ((3, True), ("3", True), (3.0, True), ("tre", False), (True, False)):
        assert passes(by_id["ma1"], call("book_flight", passengers=value, **arguments)) is expected
    assert passes(by_id["mi1"], call("send_email", to="", body="x"))
    assert passes(by_id["mi1"], call("send_email", to="il capo", body="x"))
    assert passes(by_id["mi3"], call("book_flight", origin=" "))


def test_the_table() -> None:
    rows = table(CASES, {case["id"]: right(case) for case in CASES}, PUBLISHED)
    total = rows[-1]
    assert (total["cases"], total["passed"], total["v8"], total["qwen3-0.6b"]) == (100, 100, 68, 67)
    assert total["IT"] + total["EN"] == 100 and rows[0]["v8"] == 9
    nothing = table(CASES, {case["id"]: "" for case in CASES}, PUBLISHED)
    won = {row["category"]: row["passed"] for row in nothing}
    assert (won["single"], won["unavail"], won["missing"], won["notool"]) == (0, 10, 10, 0)
    with pytest.raises(InputError, match="no answer to 100 cases"):
        table(CASES, {}, PUBLISHED)
