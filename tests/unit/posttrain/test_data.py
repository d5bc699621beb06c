"""Checks of chat rows before training."""

import json
from pathlib import Path

import pytest
from tiny import make_base

from zagreus.errors import InputError
from zagreus.posttraining.data import check_stage, select_rows

SFT = {"datasets": [{"type": "chat_template", "field_messages": "conversation"}]}
DPO = {
    "rl": "dpo",
    "datasets": [
        {"field_messages": "messages", "field_chosen": "chosen", "field_rejected": "rejected"}
    ],
}


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


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("model") / "base").parent


def test_rows_are_counted(tmp_path: Path, base: Path) -> None:
    row = {
        "id": "a/0",
        "conversation": [message("user", "Ciao"), message("assistant", "Ciao a te")],
    }
    selection = select_rows(write(tmp_path / "rows.jsonl", row, row), {}, "sft", SFT, base, None)
    assert (selection.path, selection.row_count, selection.kept) == (tmp_path / "rows.jsonl", 2, 2)
    assert (
        select_rows(
            write(tmp_path / "pairs.jsonl", pair("Ciao a te")), {}, "dpo", DPO, base, None
        ).kept
        == 1
    )


@pytest.mark.parametrize("reply", ["user", "a", " assistant ", "dummy_message"])
def test_a_reply_that_axolotl_would_cut_wrongly(tmp_path: Path, base: Path, reply: str) -> None:
    rows = write(tmp_path / "pairs.jsonl", pair("Ciao a te"), pair(reply))
    with pytest.raises(
        InputError, match="line 2: chosen is .* too short for Axolotl to find it again"
    ):
        select_rows(rows, {}, "dpo", DPO, base, None)
    assert select_rows(rows, {"max_lost_rows": 0.5}, "dpo", DPO, base, None).lost == {
        "reply too short": 1
    }


def test_what_does_not_fit_the_stage(tmp_path: Path, base: Path) -> None:
    pairs = write(tmp_path / "pairs.jsonl", pair("Ciao a te"))
    with pytest.raises(InputError, match="stage 'sft' needs \\['conversation', 'id'\\]"):
        select_rows(pairs, {}, "sft", SFT, base, None)
    with pytest.raises(InputError, match="the recipe has rl: None, expected dpo"):
        check_stage("dpo", SFT)
    with pytest.raises(InputError, match="names the fields \\['messages'\\]"):
        check_stage("sft", {"datasets": [{"field_messages": "messages"}]})
