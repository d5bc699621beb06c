"""Attention within documents: as separate passes of each, and trainings with it."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch._dynamo
from small import Training, shard, text
from torch._dynamo.testing import CompileCounterWithBackend
from world import together

from zagreus.errors import InputError
from zagreus.model.cpu import attention as attention_module
from zagreus.model.documents import Marks, document_blocks, document_mask, document_starts
from zagreus.model.llama import KernelSet, Llama, initialize
from zagreus.recipe.read import fingerprint, read_recipe, recipe_slice
from zagreus.recipe.schema import InitMethod, LlamaConfig
from zagreus.training.compilation import compile_layers
from zagreus.training.distributed import Ranks
from zagreus.training.loop import _Trainer
from zagreus.training.segment import Segment, shared_among

BEGIN, END = 6, 7
MARKS = Marks(BEGIN, END)
DOCUMENT = {"attention": "document"}
WINDOWS = {
    "sequence_length": 32,
    "train_steps": 60,
    "val_check_interval": 6,
    "limit_val_batches": 0,
}
# The lengths of the documents of two windows of 200; the last of each is cut off by the window.
LENGTHS = ([1, 64, 3, 1, 90, 41], [137, 2, 61])


def model_of(kernels: KernelSet, marks: Marks | None = MARKS) -> Llama:
    """A model whose attention is sharp enough to show a mistake."""
    config = LlamaConfig(
        hidden_size=48,
        intermediate_size=80,
        num_attention_heads=6,
        num_key_value_heads=2,
        num_hidden_layers=3,
        vocab_size=101,
        tie_word_embeddings=True,
        rope_theta=500.0,
    )
    model = Llama(config, kernels=kernels)
    initialize(model, InitMethod(std=0.2, scaling_method="NONE"), seed=1)
    model.document_marks = marks
    return model


def windows() -> torch.Tensor:
    """Two windows with documents of `LENGTHS`, one with end tokens and one with begin tokens."""
    ids = torch.randint(8, 101, (2, 200), generator=torch.Generator().manual_seed(0))
    ends, begins = (torch.tensor(lengths).cumsum(0) for lengths in LENGTHS)
    assert ends[-1] == begins[-1] == 200
    ids[0, ends[:-1] - 1] = END
    ids[1, begins[:-1]] = BEGIN
    return ids


def outputs(model: Llama, passes: list[torch.Tensor]) -> list[torch.Tensor]:
    """The hidden states of passes one after the other, and the gradients of their weighted sum."""
    hidden = torch.cat([model(ids).flatten(0, 1) for ids in passes])
    weights = torch.randn(hidden.shape, generator=torch.Generator().manual_seed(2))
    (hidden * weights).sum().backward()
    return [hidden.detach(), *(parameter.grad for parameter in model.parameters())]  # type: ignore[list-item]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("kept", [0, 1000])
@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("kernels", ["cpu", "torch"])
def test_as_separate_passes_of_each_document(
    kernels: KernelSet, recompute: bool, kept: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in positions: those of a window go on over its documents, and RoPE is relative."""
    monkeypatch.setattr(attention_module, "KEPT", kept)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    ids = windows()
    parts = [
        part[None] for row, lengths in zip(ids, LENGTHS, strict=True) for part in row.split(lengths)
    ]
    together_model = model_of(kernels)
    together_model.recompute_layer = recompute
    packed = outputs(together_model, [ids])
    separate = outputs(model_of(kernels, None), parts)
    causal = outputs(model_of(kernels, None), [ids])
    torch.set_num_threads(before)
    for ours, expected, other in zip(packed, separate, causal, strict=True):
        assert (ours - expected).norm() < 1e-5 * expected.norm()
        assert (other - expected).norm() > 1e-2 * expected.norm()


@pytest.mark.parametrize("kernels", ["cpu", "torch"])
def test_a_window_of_one_document_is_the_default(kernels: KernelSet) -> None:
    """With a begin token as the first and an end token as the last; by hand to the last bit."""
    ids = torch.randint(8, 101, (2, 200), generator=torch.Generator().manual_seed(0))
    ids[0, 0], ids[1, -1] = BEGIN, END
    limit = 0 if kernels == "cpu" else 1e-5
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    both = [outputs(model_of(kernels, marks), [ids]) for marks in (MARKS, None)]
    torch.set_num_threads(threads)
    for ours, default in zip(*both, strict=True):
        torch.testing.assert_close(ours, default, atol=limit, rtol=limit)


def test_mask_and_blocks() -> None:
    ids = torch.tensor([[5, END, 5, 5, END, END, 5]])
    starts = document_starts(ids, MARKS)
    assert starts.tolist() == [[0, 0, 2, 2, 2, 5, 6]]
    assert document_mask(starts).int().tolist() == [
        [
            [
                [1, 0, 0, 0, 0, 0, 0],
                [1, 1, 0, 0, 0, 0, 0],
                [0, 0, 1, 0, 0, 0, 0],
                [0, 0, 1, 1, 0, 0, 0],
                [0, 0, 1, 1, 1, 0, 0],
                [0, 0, 0, 0, 0, 1, 0],
                [0, 0, 0, 0, 0, 0, 1],
            ]
        ]
    ]
    begun = torch.tensor([[5, BEGIN, 5, 5, BEGIN, BEGIN, END]])
    assert document_starts(begun, MARKS).tolist() == [[0, 1, 1, 1, 4, 5, 5]]
    # One token for both, as where a tokenizer has no begin token, ends documents.
    assert document_starts(begun, Marks(BEGIN, BEGIN)).tolist() == [[0, 0, 2, 2, 2, 5, 6]]
    long = torch.full((1, 1024), 5)
    long[0, 255::256] = END
    blocks = document_blocks(document_starts(long, MARKS))
    # Of 64 blocks of 128 x 128, three a document are not empty.
    assert blocks.to_dense().sum() == 4 * 3


def test_what_a_gpu_runs_compiled_agrees() -> None:
    """FlexAttention in one graph for all layers, forward: on a CPU torch has no more of it."""
    torch._dynamo.reset()
    ids = windows()
    model, plain = model_of("torch"), model_of("torch")
    model.document_blocks = True
    graphs = CompileCounterWithBackend("aot_eager")
    compile_layers(model, graphs)
    with torch.no_grad():
        for rows in (ids, ids.flip(0)):
            torch.testing.assert_close(model(rows), plain(rows), atol=1e-4, rtol=1e-4)
    assert graphs.frame_count == 1
    torch._dynamo.reset()


def ended(tokens: np.ndarray) -> np.ndarray:
    """Tokens with ends of documents at the same positions of each window of 33."""
    for position in (4, 5, 19):
        tokens[position::33] = 2
    return tokens


def training_of(root: Path, **sections: dict[str, Any]) -> Training:
    """A training on windows of 32 tokens, each with parts of four documents.

    So each window has as many trained labels as every other.
    """
    training = Training(root)
    for name, seed in (("a", 1), ("b", 3)):
        for file in (root / "tokens" / name).glob("*.ds"):
            tokens = ended(text(seed, file.stat().st_size // 4))
            shard(file.parent, file.name[:5], tokens)
    shard(root / "heldout", "00000", ended(text(4, 33 * 8)))
    training.write_recipe(
        **{
            "tokens": WINDOWS,
            "zagreus": {**DOCUMENT, "validation": [{"folder": str(root / "heldout")}]},
            **sections,
        }
    )
    return training


def train(root: Path, last: int, ranks: Ranks) -> tuple[list[dict[str, Any]], torch.Tensor]:
    """Train up to a step from the newest save, and save; return the log and the weights."""
    recipe = shared_among(read_recipe(root / "recipe.yaml"), ranks.count)
    trainer = _Trainer(Segment(recipe, last, 0, "data"), ranks)
    trainer.resume()
    while trainer.step < last:
        trainer.train_step(False)
    trainer.save()
    trainer.written()
    lines = [line for line in map(json.loads, trainer.log) if "step" in line]
    return lines, trainer.optimizer.weights.clone()


ONE = Ranks(0, 1, torch.device("cpu"))


def losses(lines: list[dict[str, Any]]) -> list[float]:
    return [line[key] for line in lines for key in ("loss", "heldout_loss") if key in line]


def test_a_resume_is_exact_and_recomputation_changes_nothing(tmp_path: Path) -> None:
    results = []
    for name, stops, recompute in (("whole", [12], False), ("cut", [5, 12], True)):
        training_of(tmp_path / name, parallelism={"recompute_layer": recompute})
        for last in stops:
            result = train(tmp_path / name, last, ONE)
        results.append(result)
    assert torch.equal(results[0][1], results[1][1])
    assert losses(results[0][0]) == losses(results[1][0])
    assert len(losses(results[0][0])) == 12 + 2


def test_ranks_and_accumulation(tmp_path: Path) -> None:
    """The same batch as four micro batches, as one, and on two ranks."""
    results = []
    for name, count, micro, accumulation, dp in (
        ("one", 1, 2, 2, 2),
        ("whole", 1, 8, 1, 1),
        ("two", 2, 2, 2, 2),
    ):
        batch = {"micro_batch_size": micro, "batch_accumulation_per_replica": accumulation}
        training_of(tmp_path / name, tokens={**WINDOWS, **batch}, parallelism={"dp": dp})
        work = partial(train, tmp_path / name, 12)
        results.append(together(count, tmp_path / name / "ranks", work)[0])
    for other in results[1:]:
        assert losses(other[0]) == pytest.approx(losses(results[0][0]), abs=1e-4)


def test_it_is_another_training_and_older_ones_are_what_they_were(tmp_path: Path) -> None:
    with_it = training_of(tmp_path)
    recipe = read_recipe(with_it.recipe)
    assert "attention: document" in with_it.recipe.read_text()
    sliced = recipe_slice(recipe, 7)
    recipe.zagreus.attention = None
    without = recipe_slice(recipe, 7)
    assert sliced == {**without, **DOCUMENT} and fingerprint(sliced) != fingerprint(without)
    with_it.write_recipe(zagreus={"attention": None})
    assert "attention:" not in with_it.recipe.read_text()


def test_the_log_says_it(tmp_path: Path) -> None:
    training = training_of(tmp_path)
    done = training.train(1)
    assert done.returncode == 0, done.stderr
    assert "attention: within a document, from a token 1 or to a token 2" in done.stderr
    assert training.log(1)[0]["attention"] == "document"


def test_a_bad_value(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"zagreus\.attention: found 'doc', expected one of: doc"):
        training_of(tmp_path, zagreus={"attention": "doc"})
