"""Chat rows: their form, what is held apart, and how they are written (docs/architecture.md, "Chat rows").

A row's `id` is `KEY/REST`: the KEY alone decides which side it falls on, so that everything made from one conversation,
one question or one sentence template stays together.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from zagreus.atomic import atomic_file
from zagreus.data.heldout import held_apart
from zagreus.errors import InputError

ROLES = ("system", "user", "assistant")
Row = dict[str, Any]


def check_row(row: Row, where: str) -> None:
    """Raise `InputError`, naming `where` and the row's id, unless the row is a valid SFT or DPO row.

    SFT: `conversation`, which may start with a system message, then alternates user and assistant and ends with the
    assistant. DPO: `messages`, the same but ending with the user, and `chosen` and `rejected`, two different assistant messages.
    """
    name = f"{where}, row '{row.get('id')}'"
    if not isinstance(row.get("id"), str) or not row["id"]:
        raise InputError(f"{where}: a row without a string 'id': {json.dumps(row, ensure_ascii=False)[:200]}")
    if set(row) == {"id", "conversation"}:
        _check_messages(row["conversation"], name, ends_with="assistant")
    elif set(row) == {"id", "messages", "chosen", "rejected"}:
        _check_messages(row["messages"], name, ends_with="user")
        for side in ("chosen", "rejected"):
            _check_message(row[side], f"{name}, {side}")
            if row[side]["role"] != "assistant":
                raise InputError(f"{name}, {side}: role '{row[side]['role']}', expected 'assistant'")
        if row["chosen"]["content"] == row["rejected"]["content"]:
            raise InputError(f"{name}: chosen and rejected are the same text")
    else:
        raise InputError(f"{name}: keys {sorted(row)}, expected id and conversation, or id, messages, chosen and rejected")


def _check_messages(messages: Any, name: str, ends_with: str) -> None:
    if not isinstance(messages, list) or not messages:
        raise InputError(f"{name}: a conversation must be a list of messages, found {json.dumps(messages, ensure_ascii=False)[:100]}")
    for message in messages:
        _check_message(message, name)
    roles = [message["role"] for message in messages]
    turns = roles[1:] if roles[0] == "system" else roles
    expected = ["user", "assistant"] * (len(turns) // 2) + ["user"] * (len(turns) % 2)
    if turns != expected or not turns or turns[-1] != ends_with:
        raise InputError(f"{name}: roles {roles}, expected user and assistant in turn, ending with '{ends_with}'")


def _check_message(message: Any, name: str) -> None:
    if not isinstance(message, dict) or set(message) != {"role", "content"} or message["role"] not in ROLES:
        raise InputError(f"{name}: message {json.dumps(message, ensure_ascii=False)[:100]}, expected role ({'|'.join(ROLES)}) and content")
    if not isinstance(message["content"], str) or not message["content"].strip():
        raise InputError(f"{name}: an empty message of role '{message['role']}'")


def alternate(texts: Iterable[str], system: str | None = None) -> list[dict[str, str]]:
    """Return the texts as messages of user and assistant in turn, after a system message where one is given."""
    messages = [{"role": "system", "content": system}] if system else []
    return messages + [{"role": ROLES[1 + place % 2], "content": text} for place, text in enumerate(texts)]


def divide(rows: Iterable[Row], heldout: float, limit: int | None = None) -> tuple[list[Row], list[Row]]:
    """Return (rows for training, rows held apart), without repetitions, each in the order of their ids' sha256.

    Args:
        rows: valid rows with unique ids.
        heldout: share of keys that is held apart.
        limit: how many rows for training to keep; an even sample, for the order is by hash.
    """
    ordered = sorted(rows, key=lambda row: hashlib.sha256(row["id"].encode("utf-8")).digest())
    seen: set[str] = set()
    training: list[Row] = []
    apart: list[Row] = []
    for row in ordered:
        content = json.dumps({key: value for key, value in row.items() if key != "id"}, ensure_ascii=False)
        if content in seen:
            continue
        seen.add(content)
        (apart if held_apart(row["id"].rsplit("/", 1)[0], heldout) else training).append(row)
    return training[:limit], apart


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Write rows as JSON lines (UTF-8), whole or not at all."""
    with atomic_file(path) as partial, open(partial, "w", encoding="utf-8") as opened:
        opened.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
