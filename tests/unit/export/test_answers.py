"""Greedy answers of both runtimes against an independent forward pass."""

from __future__ import annotations

from pathlib import Path

import numpy
import pytest
from tiny_llama import logits_of, make_weights

from zagreus.export.answers import one_by_one, together
from zagreus.export.gguf_file import write_gguf
from zagreus.export.model_folder import ModelFolder
from zagreus.export.onnx_file import write_onnx
from zagreus.export.onnx_runtime import OnnxRuntime
from zagreus.export.runtime import Runtime

# Different lengths, more prompts than sequences: a sequence is taken again after each end.
PROMPTS = [[0, 40, 41, 42], [0, 2], [0, *range(100, 120)], [0, 7, 300], [0, 512], [0, 9, 9, 9]]
NEW = 9


@pytest.fixture(scope="module")
def expected() -> list[list[int]]:
    """The answers by a forward pass in NumPy of the whole sequence, for each token anew."""
    weights = make_weights(tied=True)
    answers = []
    for prompt in PROMPTS:
        answer: list[int] = []
        while len(answer) < NEW:
            answer.append(int(logits_of(weights, prompt + answer)[-1].argmax()))
        answers.append(answer)
    return answers


def cut(answers: list[list[int]], ends: set[int]) -> list[list[int]]:
    """Return answers up to the first token that ends them."""
    return [
        answer[: next((i for i, token in enumerate(answer) if token in ends), NEW) + 1]
        for answer in answers
    ]


@pytest.mark.parametrize("sequences", [1, 3, 8])
def test_answers_together_are_those_one_by_one(
    sequences: int, model: Path, expected: list[list[int]], tmp_path: Path
) -> None:
    path = tmp_path / "a.gguf"
    write_gguf(ModelFolder(model), "f16", "small", ["en"], True, path)
    # Tokens of the middle of answers: some answers end early, at different lengths.
    ends = {expected[0][2], expected[3][5]}
    with Runtime(path, 64, sequences=sequences) as runtime:
        assert together(runtime, PROMPTS, NEW, set()) == expected
        short = together(runtime, PROMPTS, NEW, ends)
        assert short == cut(expected, ends)
        assert len({len(answer) for answer in short}) > 1
        assert together(runtime, [], NEW, ends) == []


def test_answers_of_onnxruntime(model: Path, expected: list[list[int]], tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    write_onnx(ModelFolder(model), path)
    ends = {expected[0][2], expected[3][5]}
    with OnnxRuntime(path, 64) as runtime:
        assert one_by_one(runtime, PROMPTS, NEW, set()) == expected
        assert one_by_one(runtime, PROMPTS, NEW, ends) == cut(expected, ends)


def test_logits_of_one_sequence_stay_as_they_were(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    write_gguf(ModelFolder(model), "f16", "small", ["en"], True, path)
    with Runtime(path, 64) as one, Runtime(path, 64, sequences=4) as several:
        together(several, PROMPTS, 3, set())
        assert numpy.allclose(one.logits(PROMPTS[2]), several.logits(PROMPTS[2]), atol=1e-3)
