"""Conversations with tools, from files of others."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from zagreus.data.chat.files import read_files
from zagreus.losses import Losses

COLUMNS = {"messages": "m", "tools": "t", "keep": ["score"]}
TOOL = {"name": "somma", "parameters": {"type": "object"}}
WHOLE = {"type": "function", "function": TOOL}
CALL = {"function": {"name": "somma", "arguments": '{"a": 1}'}, "id": "c1", "type": "function"}
OUR_CALL = {"type": "function", "function": {"name": "somma", "arguments": {"a": 1}}}


def turn(role: str, content: str | None, **further: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **further}


TALK = [
    turn("user", "Somma"),
    turn("assistant", None, tool_calls=[CALL]),
    turn("tool", "1", tool_call_id="c1"),
    turn("assistant", "Fa 1."),
]
OURS = [
    turn("user", "Somma"),
    turn("assistant", "", tool_calls=[OUR_CALL]),
    turn("tool", "1"),
    turn("assistant", "Fa 1."),
]


def read(path: Path, record: dict[str, Any], parquet: bool = False) -> tuple[list, Losses]:
    if parquet:
        pq.write_table(pa.Table.from_pylist([record]), path)
    else:
        path.write_text(json.dumps(record) + "\n", encoding="utf-8")
    losses = Losses()
    return list(read_files([path], COLUMNS, losses)), losses


@pytest.mark.parametrize("parquet", [False, True])
@pytest.mark.parametrize("tools", [[WHOLE], [TOOL], json.dumps([TOOL])])
def test_tools_and_calls_are_fields(tmp_path: Path, parquet: bool, tools: Any) -> None:
    record = {"m": TALK, "t": tools, "score": 0.7, "other": 1}
    rows, losses = read(tmp_path / "x", record, parquet)
    assert not losses.total, losses.first
    assert rows[0]["conversation"] == OURS and rows[0]["tools"] == [WHOLE]
    assert rows[0]["columns"] == {"score": 0.7}


def test_a_row_without_tools(tmp_path: Path) -> None:
    rows, _ = read(tmp_path / "x", {"m": [TALK[0], TALK[3]], "t": None, "score": None})
    assert "tools" not in rows[0] and rows[0]["columns"] == {"score": None}


BAD = {
    "result without a call": [TALK[0], TALK[3], TALK[0], TALK[2], TALK[3]],
    "ends with tool": TALK[:3],
    "roles not in turn": [TALK[0], *TALK],
    "empty message": [*TALK[:3], turn("assistant", " ")],
    "no tool call": [TALK[0], turn("assistant", "", tool_calls=[{"id": "1"}]), *TALK[2:]],
    "tools that are no JSON": [
        TALK[0],
        turn("assistant", "", tool_calls=[{"function": {"name": "f", "arguments": "{"}}]),
        *TALK[2:],
    ],
}


@pytest.mark.parametrize("reason", BAD)
def test_rows_that_are_left_out(tmp_path: Path, reason: str) -> None:
    rows, losses = read(tmp_path / "x", {"m": BAD[reason], "t": [TOOL], "score": 1})
    assert not rows and losses.by_reason() == {reason: 1}
