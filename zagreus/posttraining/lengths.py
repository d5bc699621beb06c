"""Lengths of chat rows in tokens, as Axolotl counts them, and the texts of special tokens."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from zagreus.errors import InputError
from zagreus.posttraining.chatml import TURN_END, TURN_START


def special_tokens(base: Path, recipe: Mapping[str, Any]) -> list[str]:
    """Return the texts that the tokenizer reads as special tokens wherever they stand.

    Args:
        base: model folder with tokenizer.json.
        recipe: of the stage, which may add tokens (`special_tokens`, `tokens`).
    """
    tokens = {TURN_START, TURN_END}
    for token in _read(base)["added_tokens"]:
        if token["special"]:
            tokens.add(token["content"])
    added = recipe.get("special_tokens")
    tokens.update(added.values() if isinstance(added, Mapping) else ())
    tokens.update(recipe.get("tokens") or ())
    return sorted(token for token in tokens if isinstance(token, str) and token)


def _read(base: Path) -> dict[str, Any]:
    file = base / "tokenizer.json"
    if not file.exists():
        raise InputError(f"{base}: a model folder without tokenizer.json")
    return json.loads(file.read_text(encoding="utf-8"))


class Lengths:
    """Counts the tokens of rows in the chat template.

    Args:
        base: model folder with tokenizer.json.
    """

    def __init__(self, base: Path) -> None:
        content = _read(base)
        self._tokenizer = Tokenizer.from_file(str(base / "tokenizer.json"))
        # A tokenizer that was saved with truncation would count no more than its limit.
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        # A byte-level tokenizer makes no more tokens than there are bytes.
        decoder = content.get("decoder") or {}
        self._by_bytes = decoder.get("type") == "ByteLevel" and content.get("normalizer") is None

    def longest(self, row: Mapping[str, Any], stage: str, enough: int) -> int:
        """Return the tokens of a row: of the conversation, or of the prompt with the longer reply.

        Args:
            row: a chat row.
            stage: `sft` or `dpo`.
            enough: below this length an upper bound will do; it is quicker.
        """
        if stage == "sft":
            return self._tokens(render(row["conversation"]), enough)
        prompt = f"{render(row['messages'])}{TURN_START}assistant\n"
        # Each is counted alone: Axolotl tokenizes them so.
        replies = [(row[side]["content"] + TURN_END).rstrip() for side in ("chosen", "rejected")]
        bound = max(len((prompt + reply).encode("utf-8")) for reply in replies)
        if self._by_bytes and bound <= enough:
            return bound
        return self._tokens(prompt, 0) + max(self._tokens(reply, 0) for reply in replies)

    def _tokens(self, text: str, enough: int) -> int:
        if self._by_bytes and len(text) <= enough:
            size = len(text.encode("utf-8"))
            if size <= enough:
                return size
        return len(self._tokenizer.encode(text, add_special_tokens=False).ids)


def render(messages: list[dict[str, str]]) -> str:
    """Return messages in the chat template (`chatml.TEMPLATE`)."""
    turns = ((message["role"], message["content"]) for message in messages)
    return "".join(f"{TURN_START}{role}\n{content}{TURN_END}\n" for role, content in turns)
