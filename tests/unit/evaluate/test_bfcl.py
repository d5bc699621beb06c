"""BFCL: every gold answer is accepted, every corrupted one refused, and a changed rule noticed."""

from __future__ import annotations

import json
import subprocess
import sys
import types
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mutants import mutants
from small import make_model, make_tokenizer

from zagreus.data.packages import read_lock
from zagreus.errors import InputError
from zagreus.evaluation import bfcl
from zagreus.evaluation.benchmarks import read_benchmark
from zagreus.evaluation.bfcl_items import CHECKED, SCHEMA_TYPES, WHETHER
from zagreus.manifest import write_manifest

WHEEL = Path("resources/packages") / read_lock("config/packages.lock.csv")["bfcl-eval"].file
pytestmark = pytest.mark.skipif(not WHEEL.exists(), reason=f"{WHEEL} has not been downloaded")
# Items of each category of the published version.
SIZES = {"bfcl_simple": 400, "bfcl_multiple": 200, "bfcl_parallel": 200}
SIZES |= {"bfcl_parallel_multiple": 200, "bfcl_live_simple": 258, "bfcl_live_multiple": 1053}
SIZES |= {"bfcl_live_parallel": 16, "bfcl_live_parallel_multiple": 24}
SIZES |= {"bfcl_irrelevance": 240, "bfcl_live_irrelevance": 884, "bfcl_live_relevance": 16}
# Items that no answer can pass: the possible answers name an argument that the function does not
# have, or give none for a required one.
IMPOSSIBLE = {"live_simple_106-63-0", "live_simple_112-68-0"}
IMPOSSIBLE |= {"live_multiple_862-181-3", "live_multiple_964-207-0"}
Call = dict[str, dict[str, Any]]


@pytest.fixture(scope="module", autouse=True)
def checker() -> types.ModuleType:
    return bfcl.import_checker(WHEEL)


@pytest.fixture(scope="module")
def items() -> dict[str, list[dict[str, Any]]]:
    return {name: list(read_benchmark(WHEEL, name)["test"]) for name in (*CHECKED, *WHETHER)}


def answer(calls: list[Call]) -> str:
    """Return calls in Hermes' form."""
    blocks = [
        json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False)
        for call in calls
        for name, arguments in call.items()
    ]
    return "\n".join(f"<tool_call>\n{block}\n</tool_call>" for block in blocks)


def correct(item: dict[str, Any], calls: list[Call]) -> bool:
    return bfcl.bfcl_results(item, [answer(calls)])["correct"] == 1


def gold_calls(item: dict[str, Any]) -> list[Call]:
    """Return the first possible answer. What may be left out (`""`) is, unless it is required."""
    functions = {function["name"]: function for function in json.loads(item["functions"])}
    calls = []
    for possible in json.loads(item["gold"]):
        ((name, arguments),) = possible.items()
        required = functions[name]["parameters"].get("required", [])
        calls.append(
            {
                name: {
                    key: value(values)
                    for key, values in arguments.items()
                    if key in required or "" not in values
                }
            }
        )
    return calls


def value(values: list[Any]) -> Any:
    """Return the first value that is no omission.

    The checker knows possible values one level deep: those of a dictionary's keys.
    """
    first = next((one for one in values if one != ""), "")
    return [entries(part) for part in first] if isinstance(first, list) else entries(first)


def entries(one: Any) -> Any:
    if not isinstance(one, dict):
        return one
    return {key: parts[0] for key, parts in one.items() if "" not in parts}


def corrupted(item: dict[str, Any]) -> Iterator[tuple[str, list[Call]]]:
    """Yield (what is wrong, calls) for each way in which a gold answer can be wrong."""
    gold, possible = gold_calls(item), json.loads(item["gold"])
    functions = {function["name"]: function for function in json.loads(item["functions"])}
    yield "no call", []
    yield "a call more", [*gold, gold[0]]
    yield "a call less", gold[1:]
    for number, call in enumerate(gold):
        ((name, arguments),) = call.items()
        values = possible[number][name]
        required = functions[name]["parameters"].get("required", [])

        def changed(other: dict[str, Any], function: str = name, at: int = number) -> list[Call]:
            return [*gold[:at], {function: other}, *gold[at + 1 :]]

        yield "wrong name", changed(arguments, f"{name}_other")
        yield "unknown argument", changed(arguments | {"no_such_argument": 1})
        for key in arguments:
            rest = {other: arguments[other] for other in arguments if other != key}
            if key in required or "" not in values[key]:
                yield f"missing {key}", changed(rest)
            kind = functions[name]["parameters"]["properties"].get(key, {}).get("type")
            for wrong in (other_type(values[key]), *equal_values(arguments[key], kind)):
                yield f"wrong type of {key}", changed(rest | {key: wrong})
            for wrong in other_values(arguments[key], values[key]):
                yield f"wrong value of {key}", changed(rest | {key: wrong})


def impossible(item: dict[str, Any]) -> bool:
    """Return whether the possible answers of an item do not fit its functions."""
    functions = {function["name"]: function for function in json.loads(item["functions"])}
    for possible in json.loads(item["gold"]):
        ((name, arguments),) = possible.items()
        parameters = functions[name]["parameters"]
        unknown = {key for key, values in arguments.items() if "" not in values}
        if unknown - set(parameters["properties"]):
            return True
        if any(not arguments.get(key) for key in parameters.get("required", [])):
            return True
    return False


def other_type(values: list[Any]) -> Any:
    """Return a value of a type that no possible value has."""
    return {"no": {"such": "value"}} if not any(isinstance(one, dict) for one in values) else 7.25


def equal_values(good: Any, kind: str | None) -> list[Any]:
    """Return values of another type that Python holds equal: 1 for True, 1.0 for 1."""
    if isinstance(good, bool):
        return [int(good)]
    return [float(good)] if isinstance(good, int) and kind == "integer" else []


def other_values(good: Any, values: list[Any]) -> list[Any]:
    """Return values of the same type that are not possible."""
    if isinstance(good, bool):
        return [] if (not good) in values else [not good]
    if isinstance(good, int | float):
        return [max(one for one in values if isinstance(one, int | float)) + 12345]
    if isinstance(good, str):
        return ["no such value"]
    if good is None:
        return ["no such value"]
    if isinstance(good, list):
        return [[*good, *(good[-1:] or ["no such value"])]]
    return [{**good, "no_such_key": 1}]


def test_the_wheel_is_the_locked_one_and_whole(items: dict[str, list[dict[str, Any]]]) -> None:
    assert bfcl.sha256_file(WHEEL) == read_lock("config/packages.lock.csv")["bfcl-eval"].sha256
    assert {name: len(rows) for name, rows in items.items()} == SIZES
    assert all(len({row["id"] for row in rows}) == len(rows) for rows in items.values())


def test_types_are_those_of_json_schema(items: dict[str, list[dict[str, Any]]]) -> None:
    names = sys.modules["bfcl_eval.constants.type_mappings"].GORILLA_TO_OPENAPI
    assert all(names[name] == schema for name, schema in SCHEMA_TYPES.items())
    allowed = set(names.values())

    def check(schema: Any) -> None:
        if isinstance(schema.get("type"), str):
            assert schema["type"] in allowed, schema
        for part in [*(schema.get("properties") or {}).values(), schema.get("items")]:
            if isinstance(part, dict):
                check(part)

    for rows in items.values():
        for row in rows:
            functions = json.loads(row["functions"])
            tools = json.loads(row["tools"])
            assert [tool["function"]["name"] for tool in tools] == [
                function["name"] for function in functions
            ]
            for tool in tools:
                check(tool["function"]["parameters"])


@pytest.mark.parametrize("name", CHECKED)
def test_gold_answers_are_accepted_and_corrupted_ones_refused(
    name: str, items: dict[str, list[dict[str, Any]]]
) -> None:
    refused = {item["id"] for item in items[name] if not correct(item, gold_calls(item))}
    assert refused == {item["id"] for item in items[name]} & IMPOSSIBLE
    assert all(impossible(item) == (item["id"] in IMPOSSIBLE) for item in items[name])
    accepted, ways = [], Counter[str]()
    for item in items[name]:
        for what, calls in corrupted(item):
            ways[what.partition(" of ")[0].partition(" ")[0]] += 1
            if correct(item, calls):
                accepted.append((item["id"], what))
    assert not accepted
    assert set(ways) == {"no", "a", "wrong", "unknown", "missing"}
    assert ways.total() > 8 * len(items[name])


def test_whether_to_call(items: dict[str, list[dict[str, Any]]]) -> None:
    for name in WHETHER:
        relevant = name == "bfcl_live_relevance"
        for item in items[name]:
            tools = json.loads(item["functions"])
            calls: list[Call] = [{tools[0]["name"] if tools else "any": {}}]
            assert correct(item, calls) is relevant
            for text in ("Non posso farlo.", "", "<tool_call>call(1)</tool_call>"):
                assert bfcl.bfcl_results(item, [text])["correct"] == float(not relevant)


Battery = list[tuple[dict[str, Any], str, bool]]


@pytest.fixture(scope="module")
def battery(items: dict[str, list[dict[str, Any]]]) -> Battery:
    """Answers to some items of each category, and whether each is correct."""
    made: Battery = []
    for name in CHECKED:
        for item in items[name][:40]:
            made.append((item, answer(gold_calls(item)), True))
            made += [(item, answer(calls), False) for _, calls in corrupted(item)]
    for name in WHETHER:
        relevant = name == "bfcl_live_relevance"
        made.append((items[name][0], answer([{"any": {}}]), relevant))
        broken = '<tool_call>{"name": "any", "arguments": {"a"</tool_call>'
        made += [(items[name][0], text, not relevant) for text in ("No.", broken)]
    return made


def noticed(grader: Any, battery: Battery) -> bool:
    """Return whether a grader judges some answer in another way, or fails."""
    try:
        return any(
            grader.bfcl_results(item, [text]) != {"correct": float(right), "ends_turn": 0.0}
            for item, text, right in battery
        )
    except Exception:  # a rule that ends in an error is noticed
        return True


def test_every_changed_rule_of_ours_is_noticed(battery: Battery) -> None:
    assert not noticed(bfcl, battery)
    path = Path("zagreus/evaluation/bfcl.py")
    changed = list(mutants(path, {"is_correct", "bfcl_results"}))
    assert len(changed) > 10
    assert not [what for what, module in changed if not noticed(module, battery)]


@pytest.mark.parametrize(
    "rule",
    [
        "type_checker",
        "string_checker",
        "list_checker",
        "dict_checker",
        "list_dict_checker",
        "simple_function_checker",
        "multiple_function_checker",
        "parallel_function_checker_no_order",
    ],
)
def test_every_rule_of_the_checker_is_needed(
    rule: str,
    checker: types.ModuleType,
    items: dict[str, list[dict[str, Any]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A rule of the package that accepts everything lets some corrupted answer pass."""
    monkeypatch.setattr(
        checker, rule, lambda *_: {"valid": True, "error": [], "is_variable": False}
    )
    corruptions = (
        (item, calls) for name in CHECKED for item in items[name] for _, calls in corrupted(item)
    )
    assert any(_accepted(item, calls) for item, calls in corruptions)


def _accepted(item: dict[str, Any], calls: list[Call]) -> bool:
    try:
        return correct(item, calls)
    except (
        TypeError,
        AttributeError,
        KeyError,
    ):  # of another type, which the patched rule let through
        return False


def test_bad_wheels_end_in_one_line(tmp_path: Path) -> None:
    data, wheel = tmp_path / "d.json", tmp_path / "w.whl"
    write_manifest(data, kind="evaluation_data", name="d")
    with pytest.raises(InputError, match="made from 0 wheels"):
        bfcl.open_checker(data)
    with zipfile.ZipFile(wheel, "w") as opened:
        opened.writestr("a.py", "")
    write_manifest(data, kind="evaluation_data", name="d", inputs=[wheel])
    wheel.write_bytes(wheel.read_bytes() + b"x")
    with pytest.raises(InputError, match="sha256 .* expected .* as .* says"):
        bfcl.open_checker(data)
    wheel.unlink()
    with pytest.raises(InputError, match="no such file"):
        bfcl.open_checker(data)


def test_the_suite_from_end_to_end(tmp_path: Path) -> None:
    """The items as `fetch_evaluation` makes them, scored by the script in a process of its own."""
    for name in ("bfcl_simple", "bfcl_irrelevance"):
        entry = {"kind": "package", "language": "eng", "package": "bfcl-eval"}
        entry |= {"reader": name, "limit": 2}
        command = ["scripts/fetch_evaluation.py", "--name", name, "--entry", json.dumps(entry)]
        run([*command, "--inputs", str(WHEEL), "--output", str(tmp_path / f"{name}.parquet")])
    end = make_tokenizer().eos_token_id
    model = make_model(tmp_path / "model", always=end, context=2048)
    tasks = [
        {"name": name, "language": "eng", "data": name, "num_fewshot": 0}
        | {"recipe": "recipes/evaluate/bfcl.yaml"}
        for name in ("bfcl_simple", "bfcl_irrelevance")
    ]
    command = ["scripts/evaluate.py", "--model", str(model), "--suite", "bfcl"]
    command += ["--tasks", json.dumps(tasks), "--data", str(tmp_path)]
    command += ["--items", str(tmp_path / "s.items.parquet"), "--output", str(tmp_path / "s.json")]
    run(command)
    scores = {
        (score["task"], score["metric"]): (score["value"], score["majority_baseline"], score["n"])
        for score in json.loads((tmp_path / "s.json").read_text())["scores"]
    }
    assert scores["bfcl_simple", "correct"] == (0, 0, 2)
    assert scores["bfcl_irrelevance", "correct"] == (1, 1, 2)
    assert scores["bfcl_irrelevance", "ends_turn"][0] == 1


def run(command: list[str]) -> None:
    done = subprocess.run([sys.executable, "-P", *command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
