"""Prompts with tools, and answers as long as the item allows: a suite from end to end."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet
import pytest
import transformers
from small import CHATML, make_data, make_model, make_tokenizer

from zagreus.evaluation.agentic import agentic_items
from zagreus.evaluation.tool_prompts import lists_tools, render_with_tools, with_tool_list

FILE = Path("reference/nesso2/agentic_cases_100.json")
REAL = Path("results/unit/models/smollm2-135m-instruct/release")
HERMES = Path("recipes/templates/hermes.jinja").read_text(encoding="utf-8")
TOOLS = [{"type": "function", "function": {"name": "città", "parameters": {"a": "<b>"}}}]
ASK = [{"role": "user", "content": "Ciao"}]


def test_a_template_that_lists_tools_is_left_alone() -> None:
    tokenizer = make_tokenizer(HERMES)
    assert lists_tools(tokenizer, "m")
    expected = tokenizer.apply_chat_template(
        ASK, tools=TOOLS, tokenize=False, add_generation_prompt=True
    )
    assert render_with_tools(tokenizer, ASK, TOOLS, "m", listed=True) == expected


@pytest.mark.parametrize("system", [None, "Sii breve."])
def test_a_template_without_tools_gets_them_in_a_system_message(system: str | None) -> None:
    """The words are those of our own template, so that both prompts are the same."""
    plain, hermes = make_tokenizer(CHATML), make_tokenizer(HERMES)
    messages = ([{"role": "system", "content": system}] if system else []) + ASK
    assert not lists_tools(plain, "m")
    rendered = render_with_tools(plain, messages, TOOLS, "m", listed=False)
    assert rendered == render_with_tools(hermes, messages, TOOLS, "m", listed=True)
    assert json.dumps(TOOLS[0], ensure_ascii=False) in rendered
    assert messages[-1:] == ASK and with_tool_list(messages, TOOLS)[1:] == ASK


def test_a_template_that_can_think_does_not() -> None:
    thinks = CHATML + "{% if enable_thinking is defined and not enable_thinking %}no{% endif %}"
    rendered = render_with_tools(make_tokenizer(thinks), ASK, TOOLS, "m", listed=False)
    assert rendered.endswith("<|im_start|>assistant\nno")


def test_the_suite_from_end_to_end(tmp_path: Path) -> None:
    """A model that writes one letter for ever: 260 or 320 tokens, by the case's category."""
    letter = make_tokenizer().convert_tokens_to_ids("x")
    model = make_model(tmp_path / "model", always=letter, context=2048)
    wanted = {"single": 0, "unavail": 1, "notool": 0}
    items = {item["category"]: item for item in agentic_items(FILE, "eng")}
    make_data(tmp_path / "data", "agentic_eng", [items[name] for name in wanted])
    task = {"name": "agentic_eng", "language": "eng", "data": "agentic_eng", "num_fewshot": 0}
    task["recipe"] = "recipes/evaluate/agentic.yaml"
    command = ["scripts/evaluate.py", "--model", model, "--suite", "agentic"]
    command += ["--tasks", json.dumps([task]), "--data", tmp_path / "data"]
    command += ["--items", tmp_path / "s.items.parquet", "--output", tmp_path / "s.json"]
    done = subprocess.run([sys.executable, "-P", *command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "a system message lists them" in done.stdout
    manifest = json.loads((tmp_path / "s.json").read_text())
    scores = {score["metric"]: score for score in manifest["scores"]}
    assert scores["passed"]["value"] == pytest.approx(1 / 3)
    # "I cannot do that." passes where no tool serves, and where no gold word is asked for.
    assert scores["passed"]["majority_baseline"] == pytest.approx(2 / 3)
    assert scores["ends_turn"]["value"] == 0
    rows = pyarrow.parquet.read_table(tmp_path / "s.items.parquet").to_pylist()
    assert [len(row["response"]) for row in rows] == [260, 260, 320]
    assert [row["correct"] for row in rows] == [bool(passed) for passed in wanted.values()]


@pytest.mark.skipif(not REAL.exists(), reason=f"{REAL} has not been made")
def test_a_real_model_sees_every_tool_and_has_room_for_the_answer() -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(REAL)
    length = json.loads((REAL / "config.json").read_text())["max_position_embeddings"]
    assert not lists_tools(tokenizer, "m")
    for item in (*agentic_items(FILE, "eng"), *agentic_items(FILE, "ita")):
        tools = json.loads(item["tools"])
        prompt = render_with_tools(tokenizer, item["messages"], tools, item["id"], listed=False)
        assert prompt.startswith("<|im_start|>system\nYou may call these tools.")
        assert prompt.endswith("<|im_start|>assistant\n")
        assert all(json.dumps(tool, ensure_ascii=False) in prompt for tool in tools)
        tokens = tokenizer(prompt, add_special_tokens=False)["input_ids"]
        assert len(tokens) + item["max_tokens"] <= length
