"""Chat rows.

Their form, what is held out, and how they are written (docs/architecture.md, "Chat rows").

A row's `id` is `KEY/REST`: the KEY alone decides which side it falls on, so that everything made
from one conversation, one question or one sentence template stays together.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from zagreus.atomic import atomic_file
from zagreus.data.chat.form import form_of_row
from zagreus.data.chat.tools import check_calls, check_results, check_tools
from zagreus.data.heldout import held_apart
from zagreus.errors import InputError
from zagreus.records import RowError, shortened

ROLES = ("system", "user", "assistant", "tool")
Row = dict[str, Any]


def check_row(row: Row, where: str) -> None:
    """Raise `RowError`, naming `where` and the row's id, unless the row is a valid SFT or DPO row.

    SFT: `conversation`, which may start with a system message, then alternates user and assistant
    and ends with the assistant. DPO: `messages`, the same but ending with the user, and `chosen`
    and `rejected`, two different assistant messages.

    An SFT row may have `tools` (JSON schemas), and then messages with `tool_calls` and messages of
    role `tool` after them. A row may have `columns`, plain values for the filters of a stage.
    """
    if not isinstance(row.get("id"), str) or not row["id"]:
        raise RowError("no id", f"{where}: a row without a string 'id': {shortened(row, 200)}")
    name = f"{where}, row '{shortened(row['id'])[1:-1]}'"
    keys = set(row) - {"columns"}
    _check_columns(row.get("columns", {}), name)
    if keys - {"tools"} == {"id", "conversation"}:
        check_tools(row.get("tools", []), name)
        _check_messages(row["conversation"], name, ends_with="assistant")
    elif keys == {"id", "messages", "chosen", "rejected"}:
        _check_messages(row["messages"], name, ends_with="user")
        for side in ("chosen", "rejected"):
            _check_message(row[side], f"{name}, {side}")
            if row[side]["role"] != "assistant":
                problem = f"role '{row[side]['role']}', expected 'assistant'"
                raise RowError("reply of another role", f"{name}, {side}: {problem}")
        if row["chosen"]["content"] == row["rejected"]["content"]:
            raise RowError("equal replies", f"{name}: chosen and rejected are the same text")
    else:
        expected = "expected id and conversation, or id, messages, chosen and rejected"
        raise RowError("other keys", f"{name}: keys {sorted(map(str, row))}, {expected}")


def _check_messages(messages: Any, name: str, ends_with: str) -> None:
    if not isinstance(messages, list) or not messages:
        problem = f"a conversation must be a list of messages, found {shortened(messages)}"
        raise RowError("no list of messages", f"{name}: {problem}")
    for message in messages:
        _check_message(message, name)
    roles = [message["role"] for message in messages]
    check_results(messages, name)
    if roles[-1] == "tool":
        raise RowError("ends with tool", f"{name}: roles {roles}, expected an answer at the end")
    # A call, its results and what follows them are one turn of the assistant.
    spoken = [
        role
        for index, role in enumerate(roles)
        if role != "tool" and not (index and roles[index - 1] == "tool" and role == "assistant")
    ]
    turns = spoken[1:] if roles[0] == "system" else spoken
    expected = ["user", "assistant"] * (len(turns) // 2) + ["user"] * (len(turns) % 2)
    if turns != expected or not turns:
        problem = f"roles {roles}, expected user and assistant in turn, ending with '{ends_with}'"
        raise RowError("roles not in turn", f"{name}: {problem}")
    if turns[-1] != ends_with:
        problem = f"roles {roles}, expected user and assistant in turn, ending with '{ends_with}'"
        raise RowError(f"ends with {turns[-1]}", f"{name}: {problem}")


def _check_message(message: Any, name: str) -> None:
    expected = f"expected role ({'|'.join(ROLES)}) and content"
    keys = set(message) if isinstance(message, dict) else set()
    if keys - {"tool_calls", "name"} != {"role", "content"}:
        raise RowError("no message", f"{name}: message {shortened(message, 100)}, {expected}")
    if message["role"] not in ROLES:
        raise RowError("unknown role", f"{name}: message {shortened(message, 100)}, {expected}")
    if check_calls(message, name) and message["content"] == "":
        return
    if not isinstance(message["content"], str) or not message["content"].strip():
        raise RowError("empty message", f"{name}: an empty message of role '{message['role']}'")


def _check_columns(columns: Any, name: str) -> None:
    plain = str | int | float | bool | None
    if not isinstance(columns, dict) or not all(isinstance(v, plain) for v in columns.values()):
        expected = "expected a mapping of plain values"
        raise RowError("columns that are not plain", f"{name}: {shortened(columns)}, {expected}")


def alternate(texts: Iterable[str], system: str | None = None) -> list[dict[str, str]]:
    """Return the texts as messages of user and assistant in turn, after a system message where one
    is given.
    """
    messages = [{"role": "system", "content": system}] if system else []
    return messages + [
        {"role": ROLES[1 + turn % 2], "content": text} for turn, text in enumerate(texts)
    ]


def check_set(rows: Sequence[Row], name: str) -> None:
    """Raise `InputError` where rows of both forms stand together, or unequal rows share an id."""
    first: dict[str, Row] = {}
    for row in rows:
        form, expected = form_of_row(row), form_of_row(rows[0])
        if form != expected:
            problem = f"row '{rows[0]['id']}' is for {expected}, row '{row['id']}' is for {form}"
            raise InputError(f"{name}: {problem}; expected rows of one form")
        if first.setdefault(row["id"], row) != row:
            shared = sum(other["id"] == row["id"] for other in rows)
            problem = (
                f"{shared:,} of {len(rows):,} rows have the id '{row['id']}' and are not equal"
            )
            raise InputError(
                f"{name}: {problem}; expected an id of its own for each row (KEY/REST)"
            )


def without_repetitions(rows: Iterable[Row]) -> list[Row]:
    """Return the rows by their ids' sha256; of rows equal but for the id, the first."""
    seen: set[str] = set()
    kept: list[Row] = []
    for row in sorted(rows, key=lambda row: hashlib.sha256(row["id"].encode("utf-8")).digest()):
        without_id = {key: value for key, value in row.items() if key != "id"}
        content = json.dumps(without_id, ensure_ascii=False)
        if content not in seen:
            seen.add(content)
            kept.append(row)
    return kept


def key_of(row: Row) -> str:
    """Return the part of a row's id that decides whether the row is held out."""
    return row["id"].rsplit("/", 1)[0]


def divide(
    rows: Iterable[Row], heldout: float, limit: int | None = None
) -> tuple[list[Row], list[Row]]:
    """Return (rows for training, held-out rows), without repetitions, each in the order of their
    ids' sha256.

    Args:
        rows: valid rows with unique ids.
        heldout: share of keys that is held out.
        limit: how many rows for training to keep; an even sample, for the order is by hash.
    """
    training: list[Row] = []
    apart: list[Row] = []
    for row in without_repetitions(rows):
        (apart if held_apart(key_of(row), heldout) else training).append(row)
    return training[:limit], apart


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Write rows as JSON lines (UTF-8), whole or not at all."""
    with atomic_file(path) as partial, open(partial, "w", encoding="utf-8") as opened:
        opened.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
