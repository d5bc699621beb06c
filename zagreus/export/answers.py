"""Greedy answers of an export, in its runtime.

The order of the work follows from the prompts alone: the same file and prompts give the same
answers again.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zagreus.export.runtime import Runtime, Token

if TYPE_CHECKING:
    from zagreus.export.onnx_runtime import OnnxRuntime


@dataclass
class _Answer:
    """An answer that is being written: of which prompt, and its last token with its position."""

    prompt: int
    position: int
    token: int


def together(
    runtime: Runtime, prompts: Sequence[Sequence[int]], new: int, ends: Collection[int]
) -> list[list[int]]:
    """Return llama.cpp's greedy answers, `runtime.sequences` at a time.

    As soon as an answer ends, the next prompt takes its sequence.

    Args:
        runtime: with room for a prompt and its answer in each sequence.
        prompts: token ids of each prompt, one or more.
        new: the most tokens of an answer.
        ends: tokens that end an answer.

    Returns:
        The tokens of each answer; the token that ended an answer is the last one of them.
    """
    answers: list[list[int]] = [[] for _ in prompts]
    waiting = list(reversed(range(len(prompts))))
    active: dict[int, _Answer] = {}
    runtime.clear()
    while waiting or active:
        tokens: list[Token] = []
        rows: dict[int, int] = {}  # row of the logits after the last token of each sequence
        for sequence, answer in active.items():
            rows[sequence] = len(tokens)
            tokens.append(Token(answer.token, answer.position, sequence, True))
        for sequence in range(runtime.sequences):
            if sequence in active or not waiting:
                continue
            number = waiting.pop()
            prompt = prompts[number]
            runtime.forget(sequence)
            last = len(prompt) - 1
            tokens += [
                Token(token, index, sequence, index == last) for index, token in enumerate(prompt)
            ]
            rows[sequence] = len(tokens) - 1
            active[sequence] = _Answer(number, last, prompt[last])
        runtime.decode_tokens(tokens)
        for sequence, row in rows.items():
            answer = active[sequence]
            answer.token, answer.position = runtime.likeliest(row), answer.position + 1
            answers[answer.prompt].append(answer.token)
            if answer.token in ends or len(answers[answer.prompt]) == new:
                del active[sequence]
    return answers


def one_by_one(
    runtime: OnnxRuntime, prompts: Sequence[Sequence[int]], new: int, ends: Collection[int]
) -> list[list[int]]:
    """Return onnxruntime's greedy answers; arguments and result as of `together`."""
    answers: list[list[int]] = []
    for prompt in prompts:
        runtime.clear()
        answer = [int(runtime.decode(prompt)[-1].argmax())]
        while answer[-1] not in ends and len(answer) < new:
            start = len(prompt) + len(answer) - 1
            answer.append(int(runtime.decode(answer[-1:], start)[-1].argmax()))
        answers.append(answer)
    return answers
