"""The SFT recipe of Nesso2 on one process: its schedule, template and padding, with small sizes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny import finish, make_base, make_recipe, make_rows, start

TOKENS = (
    "<|im_start|>",
    "<|im_end|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "<|finetune_right_pad_id|>",
)
SMALLER = {
    "sequence_len": 256,
    "gradient_accumulation_steps": 1,
    "logging_steps": 1,
    "dataset_num_proc": 1,
    "dataloader_num_workers": 0,
    "dataloader_pin_memory": False,
}


def test_it_trains_with_a_floor_under_the_cosine(tmp_path: Path) -> None:
    recipe = make_recipe(
        tmp_path / "sft.yaml", "recipes/posttrain/nesso2_agentic_sft.yaml", **SMALLER
    )
    base = make_base(tmp_path / "base", TOKENS)
    rows = make_rows(tmp_path / "chat" / "talk.json", "sft", 24)
    mix = [{"set": "talk", "repeat": 4}]
    further = ["--mix", json.dumps(mix), "--template", "recipes/templates/llama3.jinja"]
    further += ["--turn-tokens", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"]
    status, written = finish(start(tmp_path, "sft", recipe, base, rows, *further))
    assert status == 0, written[-3000:]
    log = (tmp_path / "work/sft/log.jsonl").read_text(encoding="utf-8").splitlines()
    rates = [line["learning_rate"] for line in map(json.loads, log) if "learning_rate" in line]
    # 96 rows by two, three times: 144 steps, of which five warm up.
    assert len(rates) == 144 and max(rates) == pytest.approx(1e-3, rel=1e-3)
    assert rates[0] < 3e-4 and rates.index(max(rates)) in (4, 5)
    assert rates[-1] == pytest.approx(3e-4, rel=1e-2) and min(rates[6:]) >= 3e-4 - 1e-9
    folder = tmp_path / "models" / "sft"
    config = json.loads((folder / "generation_config.json").read_text(encoding="utf-8"))
    settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert settings["eos_token"] == "<|eot_id|>"
    assert settings["pad_token"] == "<|finetune_right_pad_id|>"
    assert config["pad_token_id"] != config["eos_token_id"]
