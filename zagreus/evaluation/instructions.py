"""Prompts for the instruction-following check, from conversations held out
(`DATASET.heldout.jsonl`, docs/architecture.md, "Chat rows").

Two forms. `answers`: the messages up to the first answer. `tools`: the same where the answer is a
call, `<tool_call>{"name": ..., "arguments": {...}}</tool_call>`, with the name of the right tool.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from zagreus.errors import InputError
from zagreus.evaluation.items import Item
from zagreus.languages import find_language, named_languages
from zagreus.manifest import read_manifest
from zagreus.records import read_records

_CALL = re.compile(r"<tool_call>(.*?)</tool_call>", re.DOTALL)


def called_tool(text: str) -> str | None:
    """Return the name in the text's first call, or None when the text holds no call with a name and
    an object of arguments.
    """
    call = read_call(text)
    return None if call is None else call["name"]


def read_call(text: str) -> dict[str, Any] | None:
    """Return the text's first call, `{name, arguments}`, or None when the text holds no call with a
    name and an object of arguments.
    """
    match = _CALL.search(text)
    if match is None:
        return None
    try:
        call = json.loads(match.group(1))
    except json.JSONDecodeError:
        return None
    if (
        not isinstance(call, dict)
        or not isinstance(call.get("name"), str)
        or not isinstance(call.get("arguments"), dict)
    ):
        return None
    return {"name": call["name"], "arguments": call["arguments"]}


def instruction_items(
    manifests: Sequence[Path],
    form: str,
    language: str,
    left_out: Counter[str] | None = None,
) -> list[Item]:
    """Return one item per question.

    `id, language, messages, reference, tool` (`tool` is empty in the form `answers`).

    A row's id may begin with a language and a colon (`german:`, `de:`, `deu:`). Where some rows
    name a language so, only rows that name the language asked for are taken. Where no row names a
    language, the data are taken to be in the language asked for.

    Args:
        manifests: of chat data; the held-out rows lie beside them.
        form: `answers` or `tools`.
        language: ISO 639-3.
        left_out: counts the rows that are no item, by reason.

    Raises:
        InputError: an unknown language, a row that is no SFT row, or no row in that language.
    """
    find_language(language)
    left_out = Counter() if left_out is None else left_out
    rows = [row for manifest in manifests for row in _rows(manifest)]
    named = [_row_languages(row["id"]) for row in rows]
    items: dict[str, Item] = {}
    for row, codes in zip(rows, named, strict=True):
        if any(named) and language not in codes:
            left_out["in another language" if codes else "id without a language"] += 1
            continue
        messages = row["conversation"]
        answer = next(
            index for index, message in enumerate(messages) if message["role"] == "assistant"
        )
        if not any(message["role"] == "user" for message in messages[:answer]):
            left_out["no question before the answer"] += 1
            continue
        reference = messages[answer]["content"]
        tool = called_tool(reference) or ""
        if (form == "tools") != bool(tool):
            left_out[f"not of the form {form}"] += 1
            continue
        item = {
            "id": row["id"],
            "language": language,
            "messages": messages[:answer],
            "reference": reference,
            "tool": tool,
        }
        question = json.dumps(item["messages"])
        left_out["the same question again"] += question in items
        items.setdefault(question, item)  # a question with several answers is asked once
    if not items:
        reasons = "; ".join(
            f"{count} rows: {reason}" for reason, count in sorted(left_out.items()) if count
        )
        detail = f" ({reasons})" if reasons else ""
        raise InputError(
            f"{', '.join(map(str, manifests))}: no row held out in '{language}' of the form "
            f"'{form}'{detail}"
        )
    return list(items.values())


def _rows(manifest: Path) -> Iterator[Item]:
    read_manifest(manifest)
    path = manifest.with_name(manifest.name.removesuffix(".json") + ".heldout.jsonl")
    if not path.exists():
        raise InputError(f"{path}: no such file, expected the held-out rows of {manifest}")
    for record in read_records(path, empty=True):
        row, where = record.value, f"{path}:{record.row}"
        if not _is_sft(row):
            raise InputError(f"{where}: not an SFT row (id, conversation)")
        if not any(message["role"] == "assistant" for message in row["conversation"]):
            raise InputError(f"{where}: a conversation without an answer")
        yield row


def _is_sft(row: Item) -> bool:
    conversation = row.get("conversation")
    return (
        isinstance(row.get("id"), str)
        and isinstance(conversation, list)
        and all(
            isinstance(message, dict)
            and isinstance(message.get("role"), str)
            and isinstance(message.get("content"), str)
            for message in conversation
        )
    )


def _row_languages(identity: str) -> set[str]:
    """Return the languages that a row's id names, by what stands before its first colon."""
    word, colon, _ = identity.partition(":")
    return named_languages(word) if colon else set()
