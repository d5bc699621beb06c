"""Prompts for the instruction-following check, from conversations held apart (`DATASET.heldout.jsonl`, docs/architecture.md, "Chat rows").

Two forms. `answers`: the messages up to the first answer. `tools`: the same where the answer is a call, `<tool_call>{"name": ...,
"arguments": {...}}</tool_call>`, with the name of the right tool.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from zagreus.errors import InputError
from zagreus.evaluation.items import Item
from zagreus.manifest import read_manifest

# The beginnings of the rows' ids that name a language, in the ISO 639-3 codes of the configuration.
LANGUAGES = {
    "eng": ("english:", "en:", "eng:"),
    "ita": ("italian:", "it:", "ita:"),
    "spa": ("spanish:", "es:", "spa:"),
    "por": ("portuguese:", "pt:", "por:"),
    "fra": ("french:", "fr:", "fra:"),
}
_CALL = re.compile(r"<tool_call>(.*?)</tool_call>", re.DOTALL)


def called_tool(text: str) -> str | None:
    """Return the name in the text's first call, or None when the text holds no call with a name and an object of arguments."""
    found = _CALL.search(text)
    if found is None:
        return None
    try:
        call = json.loads(found.group(1))
    except json.JSONDecodeError:
        return None
    if not isinstance(call, dict) or not isinstance(call.get("name"), str) or not isinstance(call.get("arguments"), dict):
        return None
    return call["name"]


def instruction_items(manifests: Sequence[Path], form: str, language: str) -> list[Item]:
    """Return one item per question: `id, language, messages, reference, tool` (`tool` is empty in the form `answers`).

    Args:
        manifests: of chat data; the rows held apart lie beside them.
        form: `answers` or `tools`.
        language: ISO 639-3; rows whose id names another language are left out.

    Raises:
        InputError: a row that is no SFT row, or no row in that language.
    """
    items: dict[str, Item] = {}
    for manifest in manifests:
        for row in _rows(manifest):
            if _other_language(row["id"], language):
                continue
            messages = row["conversation"]
            answer = next(place for place, message in enumerate(messages) if message["role"] == "assistant")
            reference = messages[answer]["content"]
            tool = called_tool(reference) or ""
            if (form == "tools") != bool(tool):
                continue
            item = {"id": row["id"], "language": language, "messages": messages[:answer], "reference": reference, "tool": tool}
            items.setdefault(json.dumps(item["messages"]), item)  # a question with several answers is asked once
    if not items:
        raise InputError(f"{', '.join(map(str, manifests))}: no row held apart in '{language}' of the form '{form}'")
    return list(items.values())


def _rows(manifest: Path) -> Iterator[Item]:
    read_manifest(manifest)
    path = manifest.with_name(manifest.name.removesuffix(".json") + ".heldout.jsonl")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file, expected the rows held apart of {manifest}") from None
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            roles = [message["role"] for message in row["conversation"]]
        except (json.JSONDecodeError, KeyError, TypeError):
            raise InputError(f"{path}:{number}: not an SFT row (id, conversation)") from None
        if "assistant" not in roles:
            raise InputError(f"{path}:{number}: a conversation without an answer")
        yield row


def _other_language(identity: str, language: str) -> bool:
    named = [code for code, prefixes in LANGUAGES.items() if identity.startswith(prefixes)]
    return bool(named) and language not in named
