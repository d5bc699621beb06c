"""Preferences as a prompt and two replies, by any chat template, for DPO.

TRL tokenizes the prompt, and the prompt with each reply; what follows the prompt's tokens is what
the reply's log-probability is taken of. Here the same is done and compared: these tokens are the
assistant's turn with the token that ends it, and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zagreus.errors import InputError
from zagreus.posttraining.templates import ChatTemplate
from zagreus.posttraining.turns import Encoder
from zagreus.records import RowError

SIDES = ("chosen", "rejected")


@dataclass(frozen=True)
class Preference:
    """A rendered row."""

    prompt: str
    """Text up to where the assistant begins."""
    replies: tuple[str, str]
    """Texts of the chosen and of the rejected turn, each with the token that ends it."""
    length: int
    """Tokens of the prompt and of the longer reply."""

    def __len__(self) -> int:
        return self.length

    def as_row(self) -> dict[str, str]:
        """Return the row in the form that Axolotl takes as rendered already."""
        return {"prompt": self.prompt, **dict(zip(SIDES, self.replies, strict=True))}


class PreferenceEncoder:
    """Renders preferences with a template, and checks which tokens a reply is.

    Args:
        base: model folder with the tokenizer.
        template: the chat template.
        recipe: of the stage, for its `special_tokens`.

    Raises:
        InputError: as `Encoder`, and where TRL would end replies with another token.
    """

    def __init__(self, base: Path, template: ChatTemplate, recipe: Mapping[str, Any]) -> None:
        from transformers import AutoTokenizer

        self._encoder = Encoder(base, template)
        self._tokenizer = AutoTokenizer.from_pretrained(base)
        self.template = template
        added = recipe.get("special_tokens") or {}
        end = added.get("eos_token", self._tokenizer.eos_token)
        if end != template.stop:
            raise InputError(
                f"special_tokens.eos_token: found {end}, expected {template.stop}, which ends a "
                f"turn of {template.file}: TRL ends replies with this token"
            )

    def encode(self, row: Mapping[str, Any], where: str) -> Preference:
        """Return a row as a prompt and two replies.

        Raises:
            InputError: the template does not render the row as training and inference need it.
            RowError: prompt and reply share a token, so that no token begins the reply.
        """
        prompt = self._encoder.render(row["messages"], None, prompt=True)
        replies = [self._reply(row, side, prompt, where) for side in SIDES]
        ids = self._tokens(prompt)
        sizes = []
        for side, reply in zip(SIDES, replies, strict=True):
            both = self._tokens(prompt + reply)
            trained = self._tokenizer.decode(both[len(ids) :], skip_special_tokens=False)
            if both[: len(ids)] != ids or trained != reply:
                raise RowError(
                    "prompt and reply share a token",
                    f"{where}: {side}: the tokens after the prompt are {trained[:100]!r}, expected "
                    f"the assistant's turn {reply[:100]!r}",
                )
            sizes.append(len(both))
        return Preference(prompt, (replies[0], replies[1]), max(sizes))

    def _reply(self, row: Mapping[str, Any], side: str, prompt: str, where: str) -> str:
        """Return the text of a reply with the token that ends it."""
        stop, content = self.template.stop, row[side]["content"]
        whole = self._encoder.render([*row["messages"], row[side]], None)
        if not whole.startswith(prompt):
            raise InputError(
                f"{self.template.file}: {where}: {side}: the generation prompt is no beginning of "
                "the assistant's turn"
            )
        reply, end, rest = whole[len(prompt) :].partition(stop)
        if not end or rest.strip() or content.strip() not in reply:
            raise InputError(
                f"{self.template.file}: {where}: {side} is rendered as "
                f"{whole[len(prompt) :][-200:]!r}, expected the assistant's turn "
                f"{content[-100:]!r} with {stop}"
            )
        return reply + end

    def _tokens(self, text: str) -> list[int]:
        """Return the tokens of a text as TRL makes them, without Axolotl's second begin token."""
        ids: list[int] = self._tokenizer(text)["input_ids"]
        begin = self._tokenizer.bos_token_id
        return ids[1:] if begin is not None and ids[:2] == [begin, begin] else ids
