"""Rows as tokens and labels, by any chat template.

The labels cover the assistant's turns, each with the token that ends it, and nothing else.
transformers renders the template in Jinja's sandbox. The text is tokenized in pieces that end where
a generation would begin, so that training and inference see the same tokens.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from zagreus.errors import InputError
from zagreus.posttraining.templates import ChatTemplate
from zagreus.records import RowError

IGNORED = -100


@dataclass(frozen=True)
class Encoded:
    """A row as tokens."""

    input_ids: list[int]
    """Ids of all tokens."""
    labels: list[int]
    """The token where it is trained on, else -100."""
    turns: list[str]
    """Texts that are trained on, in order."""

    def __len__(self) -> int:
        return len(self.input_ids)

    def as_row(self) -> dict[str, list[int]]:
        """Return the row in the form that Axolotl takes as tokenized already."""
        mask = [1] * len(self.input_ids)
        return {"input_ids": self.input_ids, "attention_mask": mask, "labels": self.labels}


class Encoder:
    """Renders conversations with a template and tokenizes them.

    Args:
        base: model folder with the tokenizer.
        template: the chat template.

    Raises:
        InputError: the template cannot be read, or the tokenizer lacks its special tokens.
    """

    def __init__(self, base: Path, template: ChatTemplate) -> None:
        from transformers import AutoTokenizer

        if not template.file.is_file():
            raise InputError(f"{template.file}: no such chat template")
        self.template = template
        self.text = template.file.read_text(encoding="utf-8")
        special_ids(base, (template.stop, *template.markers))
        self._renderer = AutoTokenizer.from_pretrained(base)
        self._tokenizer = Tokenizer.from_file(str(base / "tokenizer.json"))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    def render(
        self, messages: list[dict[str, Any]], tools: list[Any] | None, prompt: bool = False
    ) -> str:
        """Return the text of a conversation; with `prompt`, up to where the assistant begins."""
        from jinja2.exceptions import TemplateError

        try:
            return str(
                self._renderer.apply_chat_template(
                    messages,
                    tools=tools,
                    chat_template=self.text,
                    tokenize=False,
                    add_generation_prompt=prompt,
                )
            )
        except (TemplateError, TypeError, KeyError, ValueError) as error:
            problem = " ".join(str(error).split())
            raise InputError(f"{self.template.file}: the template fails: {problem}") from None

    def encode(self, row: Mapping[str, Any], where: str) -> Encoded:
        """Return the tokens and labels of a conversation.

        Raises:
            InputError: the template does not render the row as training and inference need it.
            RowError: the row has no turn of the assistant.
        """
        ids: list[int] = []
        labels: list[int] = []
        turns: list[str] = []
        for text, trained in self._pieces(row, where):
            tokens = self._tokenizer.encode(text, add_special_tokens=False).ids
            ids += tokens
            labels += tokens if trained else [IGNORED] * len(tokens)
            if trained:
                turns.append(text)
        if not turns:
            raise RowError("no turn of the assistant", f"{where}: no turn of the assistant")
        encoded = Encoded(ids, labels, turns)
        self.check_labels(encoded, row, where)
        return encoded

    def check_labels(self, encoded: Encoded, row: Mapping[str, Any], where: str) -> None:
        """Raise `InputError` unless the decoded labels are exactly the assistant's turns."""
        answers = [message for message in row["conversation"] if message["role"] == "assistant"]
        decoded = [
            self._tokenizer.decode(run, skip_special_tokens=False) for run in _runs(encoded.labels)
        ]
        if len(decoded) != len(answers):
            problem = f"{len(decoded)} labelled turns, expected {len(answers)}"
            raise InputError(f"{self.template.file}: {where}: {problem}")
        for text, message, turn in zip(decoded, answers, encoded.turns, strict=True):
            said = [message["content"].strip(), *(call_name(c) for c in calls_of(message))]
            stops = text.endswith(self.template.stop) and text.count(self.template.stop) == 1
            if not stops or text != turn or not all(part in text for part in said):
                raise InputError(
                    f"{self.template.file}: {where}: the labels are {text[-200:]!r}, expected the "
                    f"assistant's turn {message['content'][-100:]!r} with {self.template.stop}"
                )

    def _pieces(self, row: Mapping[str, Any], where: str) -> Iterator[tuple[str, bool]]:
        """Yield (text, whether it is trained on); together they are the whole text."""
        messages, tools = row["conversation"], row.get("tools") or None
        whole, done = self.render(messages, tools), 0
        for tool in tools or ():
            name = json.dumps(call_name(tool), ensure_ascii=False)
            if name.strip('"') not in whole:
                raise InputError(
                    f"{self.template.file}: {where}: the template does not render the tool {name}; "
                    "`template: hermes` or `llama3` does"
                )
        for message_index, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            before = self.render(messages[:message_index], tools, prompt=True)
            after = self.render(messages[: message_index + 1], tools)
            if not (whole.startswith(after) and after.startswith(before) and len(before) >= done):
                raise InputError(
                    f"{self.template.file}: {where}: message {message_index} is rendered "
                    "differently as the last one and within the conversation, or the generation "
                    "prompt is no beginning of the assistant's turn"
                )
            end = whole.find(self.template.stop, len(before))
            if end < 0 or end >= len(after):
                problem = f"no {self.template.stop} after message {message_index}"
                raise InputError(f"{self.template.file}: {where}: {problem}")
            end += len(self.template.stop)
            yield whole[done : len(before)], False
            yield whole[len(before) : end], True
            done = end
        if whole[done:]:
            yield whole[done:], False


def special_ids(base: Path, names: tuple[str, ...]) -> dict[str, int]:
    """Return the ids of special tokens of a model folder's tokenizer.

    Raises:
        InputError: a name is no special token of the tokenizer.
    """
    file = base / "tokenizer.json"
    if not file.exists():
        raise InputError(f"{base}: a model folder without tokenizer.json")
    added = {
        token["content"]: token["id"]
        for token in json.loads(file.read_text(encoding="utf-8"))["added_tokens"]
        if token["special"]
    }
    missing = [name for name in names if name not in added]
    if missing:
        problem = f"{' and '.join(missing)} not among the special tokens"
        raise InputError(f"{file}: {problem}, the chat template needs them")
    return {name: added[name] for name in names}


def calls_of(message: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the tool calls of a message."""
    return message.get("tool_calls") or []


def call_name(call: Mapping[str, Any]) -> str:
    """Return the name of a tool or of a call of one."""
    return str(call["function"]["name"])


def _runs(labels: list[int]) -> Iterator[list[int]]:
    """Yield each run of labelled tokens."""
    run: list[int] = []
    for label in labels:
        if label == IGNORED:
            if run:
                yield run
            run = []
        else:
            run.append(label)
    if run:
        yield run
