"""scripts/posttrain.py with a chat template and with several data sets: real runs of Axolotl."""

import json
from pathlib import Path

import pytest
from tiny import finish, make_base, make_recipe, make_rows, start

from zagreus.manifest import write_manifest

TOKENS = ("<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
SHORT = {
    "sequence_len": 512,
    "micro_batch_size": 1,
    "num_epochs": 1,
    "val_set_size": 0,
    "eval_strategy": "no",
}


def tool_rows(path: Path, count: int) -> Path:
    """Write rows in which the assistant calls a tool, and return their manifest."""
    function = {"name": "somma", "parameters": {"type": "object"}}
    rows = []
    for number in range(count):
        call = {"name": "somma", "arguments": {"a": number}}
        rows.append(
            {
                "id": f"tool{number}/0",
                "conversation": [
                    {"role": "user", "content": f"Somma {number}"},
                    {
                        "role": "assistant",
                        "content": "",
                        "tool_calls": [{"type": "function", "function": call}],
                    },
                    {"role": "tool", "content": str(number)},
                    {"role": "assistant", "content": f"Fa {number}."},
                ],
                "tools": [{"type": "function", "function": function}],
                "columns": {"score": number / 10},
            }
        )
    path.with_suffix(".jsonl").write_text(
        "".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8"
    )
    facts = {"form": "sft", "rows": count, "rows_heldout": 0, "origins": []}
    outputs = [path.with_suffix(".jsonl")]
    write_manifest(path, kind="chat", name=path.stem, outputs=outputs, **facts)
    return path


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("inputs")
    llama = {"pad_token": "<|im_end|>", "eos_token": "<|eot_id|>"}
    recipe = "recipes/posttrain/test_sft.yaml"
    return {
        "base": make_base(folder / "base", TOKENS),
        "rows": make_rows(folder / "chat" / "talk.json", "sft", 24),
        "tools": tool_rows(folder / "chat" / "tools.json", 10),
        "recipe": make_recipe(folder / "sft.yaml", recipe, **SHORT),
        "llama": make_recipe(folder / "llama.yaml", recipe, **SHORT, special_tokens=llama),
    }


@pytest.mark.slow
def test_our_chatml_trains_what_axolotls_does(inputs: dict[str, Path], tmp_path: Path) -> None:
    """The labels are those of Axolotl's own strategy: the weights are the same, byte for byte."""
    arguments = (inputs["recipe"], inputs["base"], inputs["rows"])
    further = ["--template", "recipes/templates/chatml.jinja"]
    further += ["--turn-tokens", "<|im_end|>", "<|im_start|>"]
    for name, options in (("axolotl", []), ("ours", further)):
        status, written = finish(start(tmp_path / name, "sft", *arguments, *options))
        assert status == 0, written[-3000:]
    for file in ("model.safetensors", "chat_template.jinja", "generation_config.json"):
        one, other = (tmp_path / name / "models" / "sft" / file for name in ("axolotl", "ours"))
        assert one.read_bytes() == other.read_bytes(), file


@pytest.mark.slow
def test_tools_in_llama3s_template(inputs: dict[str, Path], tmp_path: Path) -> None:
    """Two sets, one filtered and taken twice; the model folder has the template that it saw."""
    from transformers import AutoTokenizer, GenerationConfig

    mix = [{"set": "talk"}, {"set": "tools", "repeat": 2, "where": {"score": {"min": 0.5}}}]
    further = [inputs["tools"], "--mix", json.dumps(mix)]
    further += ["--template", "recipes/templates/llama3.jinja"]
    further += ["--turn-tokens", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"]
    process = start(tmp_path, "sft", inputs["llama"], inputs["base"], inputs["rows"], *further)
    status, written = finish(process)
    assert status == 0, written[-3000:]
    assert "tools: 5 of 10 rows pass the filters; 10 rows taken" in written
    folder = tmp_path / "models" / "sft"
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["rows"] == 34 and [entry["taken"] for entry in manifest["mix"]] == [24, 10]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    text = Path("recipes/templates/llama3.jinja").read_text(encoding="utf-8")
    assert tokenizer.chat_template.strip() == text.strip()
    assert tokenizer.eos_token == "<|eot_id|>"
    end = tokenizer.convert_tokens_to_ids("<|eot_id|>")
    assert GenerationConfig.from_pretrained(folder).eos_token_id == end


def test_tools_without_a_template_are_refused(inputs: dict[str, Path], tmp_path: Path) -> None:
    status, written = finish(
        start(tmp_path, "sft", inputs["recipe"], inputs["base"], inputs["tools"])
    )
    assert status == 2 and "a row with tools; `template: hermes` or `llama3`" in written
