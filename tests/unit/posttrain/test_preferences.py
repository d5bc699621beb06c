"""DPO with chat templates: what TRL trains on is the assistant's turn and its end token."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tiny import ANSWERS, finish, make_base, make_recipe, make_rows, start

from zagreus.errors import InputError
from zagreus.posttraining.preferences import PreferenceEncoder
from zagreus.posttraining.templates import ChatTemplate, template_of
from zagreus.records import RowError

MARKERS = ("<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
PLAIN = "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ '\\n' + m.content }}<|eot_id|>"
PLAIN += "{% endfor %}{% if add_generation_prompt %}[assistant]{{ '\\n' }}{% endif %}"
NAMES = ("chatml", "hermes", "llama3", "file")


def template(name: str, folder: Path) -> ChatTemplate:
    """A named template, or one of a file of the user's own."""
    if name != "file":
        made = template_of({"template": name})
        assert made is not None
        return made
    file = folder / "plain.jinja"
    file.write_text(PLAIN, encoding="utf-8")
    return ChatTemplate(file, "<|eot_id|>")


def recipe_for(stop: str) -> dict[str, Any]:
    """The keys of a recipe that an encoder reads."""
    return {"special_tokens": {"pad_token": stop, "eos_token": stop}}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("base") / "base", MARKERS)


def row(chosen: str = "Bene.", rejected: str = "Male.") -> dict[str, Any]:
    """A preference after two turns."""
    return {
        "id": "1/0",
        "messages": [
            {"role": "user", "content": "Ciao"},
            {"role": "assistant", "content": "Ciao!"},
            {"role": "user", "content": "Come stai?"},
        ],
        "chosen": {"role": "assistant", "content": chosen},
        "rejected": {"role": "assistant", "content": rejected},
    }


@pytest.mark.parametrize("name", NAMES)
def test_replies_are_turns_with_their_end(name: str, base: Path, tmp_path: Path) -> None:
    made = template(name, tmp_path)
    encoder = PreferenceEncoder(base.parent, made, recipe_for(made.stop))
    encoded = encoder.encode(row(), "row 1")
    assert encoded.replies == (f"Bene.{made.stop}", f"Male.{made.stop}")
    assert encoded.prompt.count("Ciao!") == 1 and encoded.prompt.count("Come stai?") == 1
    assert list(encoded.as_row()) == ["prompt", "chosen", "rejected"]


def test_another_end_token_of_the_recipe_is_refused(base: Path, tmp_path: Path) -> None:
    """TRL would add it after ours."""
    with pytest.raises(InputError, match="eos_token: found <.im_end.>, expected <.eot_id.>"):
        PreferenceEncoder(base.parent, template("llama3", tmp_path), recipe_for("<|im_end|>"))


def test_a_template_without_an_end_token_is_refused(base: Path, tmp_path: Path) -> None:
    file = tmp_path / "endless.jinja"
    file.write_text(PLAIN.replace("<|eot_id|>", ""), encoding="utf-8")
    encoder = PreferenceEncoder(
        base.parent, ChatTemplate(file, "<|eot_id|>"), recipe_for("<|eot_id|>")
    )
    with pytest.raises(InputError, match="endless.jinja: row 1: chosen is rendered as"):
        encoder.encode(row(), "row 1")


def test_a_reply_that_shares_a_token_with_the_prompt_is_lost(base: Path, tmp_path: Path) -> None:
    """The generation prompt ends with a space, which the tokenizer joins with some words."""
    file = tmp_path / "spaced.jinja"
    file.write_text(PLAIN.replace("\\n", " "), encoding="utf-8")
    encoder = PreferenceEncoder(
        base.parent, ChatTemplate(file, "<|eot_id|>"), recipe_for("<|eot_id|>")
    )
    prompt = encoder._tokens("[assistant] ")
    words = [word for answer in ANSWERS for word in answer.split()]
    joined = [w for w in words if encoder._tokens(f"[assistant] {w}")[: len(prompt)] != prompt]
    assert joined, "the tokenizer has tokens that begin with a space"
    with pytest.raises(RowError, match="rejected: the tokens after the prompt are"):
        encoder.encode(row("\u00e8 vero", joined[0]), "row 1")


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_what_axolotl_trains_on(
    name: str, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tokens of the trainer's own data set, and the finished model's template."""
    from transformers import AutoTokenizer

    made = template(name, tmp_path)
    rows = make_rows(tmp_path / "chat" / "pairs.json", "dpo", 12)
    recipe = make_recipe(
        tmp_path / "dpo.yaml",
        "recipes/posttrain/test_dpo.yaml",
        micro_batch_size=2,
        gradient_accumulation_steps=1,
        plugins=["tests.unit.posttrain.preference_probe.PreferenceProbe"],
        **recipe_for(made.stop),
    )
    monkeypatch.setenv("ZAGREUS_PROBE", str(tmp_path / "probe.json"))
    options = ["--template", str(made.file), "--turn-tokens", made.stop, *made.markers]
    status, written = finish(start(tmp_path, "dpo", recipe, base, rows, *options))
    assert status == 0, written[-3000:]
    folder = tmp_path / "models" / "dpo"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    text = made.file.read_text(encoding="utf-8")
    assert tokenizer.chat_template.strip() == text.strip()
    pairs = [json.loads(line) for line in rows.with_suffix(".jsonl").read_text().splitlines()]
    expected = {
        tokenizer.apply_chat_template(pair["messages"], add_generation_prompt=True, tokenize=False)
        + "|".join(pair[side]["content"] + made.stop for side in ("chosen", "rejected"))
        for pair in pairs
    }
    trained = json.loads((tmp_path / "probe.json").read_text())
    decoded = {
        tokenizer.decode(ids["prompt_ids"])
        + "|".join(tokenizer.decode(ids[f"{side}_ids"]) for side in ("chosen", "rejected"))
        for ids in trained
    }
    assert len(trained) == 12 and decoded == expected
