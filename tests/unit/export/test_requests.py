"""Scores of an export's answers to requests, through both runtimes."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_llama import ROOT, SPECIAL, make_reference, make_tokenizer

from zagreus.config.yaml_file import parse_yaml
from zagreus.export import job
from zagreus.export.formats import Limits, format_of
from zagreus.export.requests import TOKENS, Request, Requests

CALL = '<tool_call>{"name": "TurnOn", "arguments": {"area": "hall"}}</tool_call>'
OTHER = CALL.replace("hall", "kitchen")
END = SPECIAL.index("<|im_end|>")
# The model is random and two layers deep.
WIDE = Limits(0.9, 1.0, 0.1)


def request(answer: list[int], language: str = "ita") -> Request:
    return Request(language, [0, 40, 41], "TurnOn", CALL, answer)


def ids(text: str) -> list[int]:
    ids: list[int] = make_tokenizer().encode(text, add_special_tokens=False).ids
    return ids


def test_scores_are_those_of_the_answers(model: Path) -> None:
    right, other = [*ids(CALL), END], [*ids(OTHER), END]
    requests = Requests([request(right), request(right), request(other, "eng")], [END])
    tokenizer = model / "tokenizer.json"
    facts = requests.facts([right, other, ids("Ciao")], tokenizer)
    ita, eng = facts["requests"]["ita"], facts["requests"]["eng"]
    assert ita == {
        "items": 2,
        "ends_turn": 1.0,
        "valid_call": 1.0,
        "right_tool": 1.0,
        "right_call": 0.5,
        "equal_answers": 0.5,
    }
    assert eng["ends_turn"] == eng["valid_call"] == eng["equal_answers"] == 0.0
    assert facts["requests_fp32"]["ita"]["right_call"] == 1.0
    assert facts["requests_fp32"]["eng"]["right_tool"] == 1.0
    assert facts["requests_fp32"]["eng"]["right_call"] == 0.0


@pytest.mark.parametrize("name", ["f16", "onnx_fp32"])
def test_an_export_answers_as_the_model_does(name: str, model: Path, tmp_path: Path) -> None:
    form = format_of(name)
    make_reference(model).save(tmp_path)
    own = tmp_path / f"model.{form.suffix}"

    def made() -> dict[str, object]:
        options = {"title": "small", "languages": ["eng"]}
        return job.export(model, tmp_path, form, WIDE, own, **options).facts

    assert "requests" not in made()
    assert Requests.load(tmp_path) is None
    requests = Requests([request([]), replace(request([]), prompt=[0, 7, 300, 9])], [END])
    answers = job.answers_of(own, requests, 1)
    assert all(len(answer) == TOKENS or answer[-1] == END for answer in answers)
    # One answer of the model, and one that is another.
    items = [replace(requests.items[0], answer=answers[0]), requests.items[1]]
    Requests(items, [END]).save(tmp_path)
    own.unlink()
    judged = made()["requests"]
    assert isinstance(judged, dict)
    assert judged["ita"]["items"] == 2 and judged["ita"]["equal_answers"] == 0.5


def test_requests_come_back_from_their_file(tmp_path: Path) -> None:
    requests = Requests([request([5, END]), request([], "eng")], [END, 1])
    requests.save(tmp_path)
    assert Requests.load(tmp_path) == requests


def test_answers_are_as_long_as_in_the_evaluation() -> None:
    recipe = (ROOT / "recipes/evaluate/tools.yaml").read_text(encoding="utf-8")
    match = re.search(r"max_gen_toks: (\d+)", recipe)
    assert match is not None and int(match[1]) == TOKENS


def test_answers_are_as_long_as_those_of_the_task() -> None:
    path = ROOT / "recipes/evaluate/tools.yaml"
    recipe = parse_yaml(path.read_text(encoding="utf-8"), str(path), task=True)
    assert recipe["generation_kwargs"]["max_gen_toks"] == TOKENS
