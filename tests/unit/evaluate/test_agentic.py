"""The frozen cases of tool use: right answers pass, each wrong one fails."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from mutants import mutants

from zagreus.errors import InputError
from zagreus.evaluation import agentic
from zagreus.evaluation.agentic import (
    CATEGORIES,
    Call,
    agentic_items,
    case_results,
    passes,
    read_cases,
    tool_calls,
)
from zagreus.evaluation.tool_calls import END_OF_TURN

FILE = Path("reference/nesso2/agentic_cases_100.json")
TOOLS, CASES = read_cases(FILE)


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
    assert Counter(case["lang"] for case in CASES) == {"IT": 50, "EN": 50}


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
    "thoughts in a block": (
        '<tool_call><think>a?</think>{"name": "f", "arguments": {"a": 1}}</tool_call>',
        [Call("f", {"a": 1})],
    ),
    "arguments as text": ('<tool_call>{"name": "f", "arguments": "a"}</tool_call>', [Call("f")]),
    "nothing": ("", []),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_calls_of_an_answer(name: str) -> None:
    answer, expected = ANSWERS[name]
    assert tool_calls(answer) == expected


def test_details_of_the_rules() -> None:
    arguments = {"origin": "Milano", "destination": "Tokyo", "date": "x"}
    for value, expected in ((3, True), ("3", True), (3.0, True), ("tre", False), (True, False)):
        assert passes(BY_ID["ma1"], call("book_flight", passengers=value, **arguments)) is expected
    for case, answer, passed in DETAILS:
        assert _verdict(agentic, case, answer) is passed, (case, answer)


def test_the_items_hold_all_that_the_grader_reads(tmp_path: Path) -> None:
    items = [*agentic_items(FILE, "ita"), *agentic_items(FILE, "eng")]
    assert len(items) == 100
    for item in items:
        case = BY_ID[item["id"]]
        assert item["messages"] == case["messages"] and json.loads(item["tools"]) == TOOLS
        expected = 320 if case["cat"] in ("obs", "multistep", "notool") else 260
        assert item["max_tokens"] == expected
        for answer in (right(case), *wrong(case).values()):
            passed = float(passes(case, answer))
            ended = case_results(item, [answer + END_OF_TURN])
            assert ended == {"passed": passed, "ends_turn": 1}
            assert case_results(item, [answer]) == {"passed": passed, "ends_turn": 0}
    with pytest.raises(InputError, match="no case in 'fra'"):
        agentic_items(FILE, "fra")


BY_ID = {case["id"]: case for case in CASES}
# Answers beside those above, for rules that only such answers meet: case, answer, whether it
# passes. None: the case is refused.
DETAILS: list[tuple[dict[str, Any], str, bool | None]] = [
    (BY_ID["mi1"], call("send_email", to="", body="x"), True),
    (BY_ID["mi1"], call("send_email", to="il capo", body="x"), True),
    (BY_ID["mi3"], call("book_flight", origin=" "), True),
    (BY_ID["mi3"], call("book_flight"), True),
    ({"id": "a", "cat": "notool", "spec": {}}, "Sì", False),
    ({"id": "a", "cat": "notool", "spec": {}}, "Sì, certo", True),
    ({"id": "a", "cat": "notool", "spec": {}}, "<think>Sì o no?</think> Sì", False),
    ({"id": "a", "cat": "obs", "spec": {}}, "Sì", True),
    ({"id": "a", "cat": "obs", "spec": None}, "Sì", True),
    ({"id": "a", "cat": "multiarg", "spec": {"tools": ["f"], "n": 1}}, call("f"), True),
    ({"id": "a", "cat": "other", "spec": {"next": "f"}}, call("f"), None),
]
GRADERS = {"tool_calls", "passes", "_call_of", "_call", "_called", "_arguments", "_made_up"}
PATTERNS = ("_THINK", "_BLOCK", "_BARE", "_NAME")


def _verdict(module: Any, case: dict[str, Any], answer: str) -> bool | None:
    try:
        return bool(module.passes(case, answer))
    except InputError:
        return None


def _noticed(module: Any, answers: list[tuple[dict[str, Any], str, bool | None]]) -> bool:
    """Return whether a changed grader judges an answer in another way, reads another call, or
    fails.
    """
    try:
        for case, answer, expected in answers:
            if _verdict(module, case, answer) != expected:
                return True
        for answer, calls in ANSWERS.values():
            made = [(made.name, made.arguments) for made in module.tool_calls(answer)]
            if made != [(expected.name, expected.arguments) for expected in calls]:
                return True
        return bool(module.tool_calls(ANSWERS["cut JSON"][0], names=False))
    except Exception:  # a rule that ends in an error is noticed
        return True


def test_every_changed_rule_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each grader with one rule changed judges some answer in another way."""
    answers: list[tuple[dict[str, Any], str, bool | None]] = [
        (case, answer, expected)
        for case in CASES
        for expected, made in ((True, [right(case)]), (False, list(wrong(case).values())))
        for answer in made
    ]
    answers += DETAILS
    assert not _noticed(agentic, answers)
    changed = list(mutants(Path("zagreus/evaluation/agentic.py"), GRADERS))
    assert len(changed) > 90
    assert not [what for what, module in changed if not _noticed(module, answers)]
    for name in PATTERNS:
        with monkeypatch.context() as patched:
            patched.setattr(agentic, name, re.compile("(?!)"))
            assert _noticed(agentic, answers), name
