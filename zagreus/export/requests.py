"""Requests that call for a tool: does an export still answer them as the fp32 model does?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tokenizers

from zagreus.evaluation.tool_calls import END_OF_TURN, tool_results
from zagreus.export.answers import one_by_one, together
from zagreus.export.runtime import Runtime

# The most tokens of an answer, as recipes/evaluate/tools.yaml has it.
TOKENS = 128
# Answers that llama.cpp writes together.
SEQUENCES = 8
FILE = "requests.json"


@dataclass(frozen=True)
class Request:
    """A request, and what the fp32 model answers."""

    language: str
    """ISO 639-3."""
    prompt: list[int]
    """The conversation through the chat template, token ids."""
    tool: str
    """The tool that the reference calls."""
    reference: str
    """The right answer."""
    answer: list[int]
    """The fp32 model's greedy answer, token ids."""


@dataclass(frozen=True)
class Requests:
    """Requests of all languages of a model, and the tokens at which its answers end."""

    items: list[Request]
    """In the order of the evaluation data."""
    ends: list[int]
    """Token ids that end an answer."""

    def save(self, folder: Path) -> None:
        """Write `requests.json`; equal content gives equal bytes."""
        content = {"items": [vars(item) for item in self.items], "ends": self.ends}
        (folder / FILE).write_text(json.dumps(content) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Requests | None:
        """Read what `save` wrote; None where a reference has no requests."""
        path = folder / FILE
        if not path.exists():
            return None
        content = json.loads(path.read_text(encoding="utf-8"))
        return cls([Request(**item) for item in content["items"]], content["ends"])

    def facts(self, answers: Sequence[list[int]], tokenizer: Path) -> dict[str, Any]:
        """Return, by language, the scores of answers and those of the fp32 model.

        Args:
            answers: token ids, one answer a request.
            tokenizer: the tokenizer.json.

        Returns:
            `requests` and `requests_fp32`: shares by metric, and the number of items.
            `requests` has the share of answers that are the fp32 model's, token for token.
        """
        decoder = tokenizers.Tokenizer.from_file(str(tokenizer))
        languages = sorted({item.language for item in self.items})
        result: dict[str, dict[str, Any]] = {"requests": {}, "requests_fp32": {}}
        for language in languages:
            pairs = [
                (item, answer)
                for item, answer in zip(self.items, answers, strict=True)
                if item.language == language
            ]
            equal = sum(item.answer == answer for item, answer in pairs) / len(pairs)
            own = self._scores(decoder, pairs)
            fp32 = self._scores(decoder, [(item, item.answer) for item, _ in pairs])
            result["requests"][language] = own | {"equal_answers": round(equal, 6)}
            result["requests_fp32"][language] = fp32
        return result

    def _scores(
        self, decoder: tokenizers.Tokenizer, pairs: Sequence[tuple[Request, list[int]]]
    ) -> dict[str, Any]:
        results = [
            tool_results(vars(item), [self._text(decoder, answer)]) for item, answer in pairs
        ]
        shares = {
            metric: round(sum(result[metric] for result in results) / len(results), 6)
            for metric in results[0]
        }
        return {"items": len(pairs)} | shares

    def _text(self, decoder: tokenizers.Tokenizer, answer: list[int]) -> str:
        ended = bool(answer) and answer[-1] in self.ends
        text: str = decoder.decode(answer[:-1] if ended else answer, skip_special_tokens=True)
        return text + END_OF_TURN if ended else text


def answers_of(path: Path, requests: Requests, threads: int) -> list[list[int]]:
    """Return an export's greedy answers to requests, in its runtime.

    Raises:
        InputError: the runtime cannot load the file, or memory does not suffice.
    """
    prompts = [item.prompt for item in requests.items]
    context = max(map(len, prompts)) + TOKENS
    if path.suffix == ".gguf":
        # llama.cpp rounds the context of a sequence up to a multiple of 256.
        with Runtime(path, -(-context // 256) * 256, threads, SEQUENCES) as runtime:
            return together(runtime, prompts, TOKENS, requests.ends)
    from zagreus.export.onnx_runtime import OnnxRuntime

    with OnnxRuntime(path, context, threads) as session:
        return one_by_one(session, prompts, TOKENS, requests.ends)
