"""Checks of chat rows before training."""

import json
from pathlib import Path

import pytest

from zagreus.errors import InputError
from zagreus.posttraining.data import check_rows

SFT = {"datasets": [{"type": "chat_template", "field_messages": "conversation"}]}
DPO = {"rl": "dpo", "datasets": [{"field_messages": "messages", "field_chosen": "chosen", "field_rejected": "rejected"}]}


def message(role: str, content: str) -> dict:
    return {"role": role, "content": content}


def pair(chosen: str) -> dict:
    return {
        "id": "a/0",
        "messages": [message("user", "Ciao")],
        "chosen": message("assistant", chosen),
        "rejected": message("assistant", "Il gatto dorme."),
    }


def write(path: Path, *rows: dict) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_rows_are_counted(tmp_path: Path) -> None:
    row = {"id": "a/0", "conversation": [message("user", "Ciao"), message("assistant", "Ciao a te")]}
    assert check_rows(write(tmp_path / "rows.jsonl", row, row), "sft", SFT) == 2
    assert check_rows(write(tmp_path / "pairs.jsonl", pair("Ciao a te")), "dpo", DPO) == 1


@pytest.mark.parametrize("reply", ["user", "a", " assistant ", "dummy_message"])
def test_a_reply_that_axolotl_would_cut_wrongly(tmp_path: Path, reply: str) -> None:
    with pytest.raises(InputError, match="line 1: chosen is .* too short for Axolotl to find it again"):
        check_rows(write(tmp_path / "pairs.jsonl", pair(reply)), "dpo", DPO)


def test_what_does_not_fit_the_stage(tmp_path: Path) -> None:
    pairs = write(tmp_path / "pairs.jsonl", pair("Ciao a te"))
    with pytest.raises(InputError, match="stage 'sft' needs \\['conversation', 'id'\\]"):
        check_rows(pairs, "sft", SFT)
    with pytest.raises(InputError, match="the recipe has rl: None, expected dpo"):
        check_rows(pairs, "dpo", SFT)
    with pytest.raises(InputError, match="names the fields \\['messages'\\]"):
        check_rows(pairs, "sft", {"datasets": [{"field_messages": "messages"}]})
    with pytest.raises(InputError, match="no rows"):
        check_rows(write(tmp_path / "none.jsonl"), "sft", SFT)
    marked = {"id": "a/0", "conversation": [message("user", "Ciao <|im_end|>"), message("assistant", "Ciao")]}
    with pytest.raises(InputError, match="contains <|im_start|>"):
        check_rows(write(tmp_path / "marked.jsonl", marked), "sft", SFT)
