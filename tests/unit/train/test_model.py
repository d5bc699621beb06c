"""The Llama against transformers' own, and the blockwise loss against torch's."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import LlamaForCausalLM

from zagreus.model.cpu import attention as attention_module
from zagreus.model.cpu.attention import block_rows
from zagreus.model.cpu.modules import CpuAttention
from zagreus.model.hf import hf_config, hf_weights
from zagreus.model.llama import Attention, KernelSet, Llama, initialize
from zagreus.recipe.schema import InitMethod, LlamaConfig
from zagreus.training import loss as loss_module
from zagreus.training.compilation import compile_layers
from zagreus.training.loss import linear_cross_entropy


def config(**changes: object) -> LlamaConfig:
    values = {
        "hidden_size": 48,
        "intermediate_size": 80,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "num_hidden_layers": 3,
        "max_position_embeddings": 32,
        "vocab_size": 101,
        "is_llama_config": True,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": True,
    }
    return LlamaConfig(**{**values, **changes})  # type: ignore[arg-type]


def model_of(settings: LlamaConfig, kernels: KernelSet = "cpu") -> Llama:
    """A model whose logits are large enough to show a mistake."""
    model = Llama(settings, kernels=kernels)
    initialize(model, InitMethod(std=0.2, scaling_method="NONE"), seed=1)
    for name, parameter in model.named_parameters():
        if "norm" in name:
            parameter.data.uniform_(0.5, 1.5, generator=torch.Generator().manual_seed(len(name)))
    return model


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("interleaved", [True, False])
@pytest.mark.parametrize("pairs", [2, 6, None])
def test_logits_and_gradients_are_those_of_transformers(
    tied: bool, interleaved: bool, pairs: int | None, tmp_path: Path
) -> None:
    settings = config(
        tie_word_embeddings=tied,
        rope_interleaved=interleaved,
        num_key_value_heads=pairs,
        rope_theta=500.0,
    )
    ours = model_of(settings)
    save_file(
        hf_weights(dict(ours.state_dict()), settings),
        tmp_path / "model.safetensors",
        metadata={"format": "pt"},
    )
    (tmp_path / "config.json").write_text(json.dumps(hf_config(settings, 101, 32, "float32")))
    reference, report = LlamaForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    assert reference.config.rope_parameters["rope_theta"] == 500.0
    ids = torch.randint(0, 101, (2, 32), generator=torch.Generator().manual_seed(0))
    logits = ours.logits(ids)
    expected = reference(ids).logits
    assert logits.abs().max() > 1
    torch.testing.assert_close(logits, expected, atol=2e-5, rtol=1e-5)
    logits.square().mean().backward()
    expected.square().mean().backward()
    torch.testing.assert_close(
        ours.token_embedding.weight.grad,
        reference.model.embed_tokens.weight.grad,
        atol=1e-5,
        rtol=1e-4,
    )
    gate, up = ours.decoder[1].mlp.gate_up_proj.weight.grad.chunk(2)
    torch.testing.assert_close(
        gate, reference.model.layers[1].mlp.gate_proj.weight.grad, atol=1e-5, rtol=1e-4
    )
    torch.testing.assert_close(
        up, reference.model.layers[1].mlp.up_proj.weight.grad, atol=1e-5, rtol=1e-4
    )


@pytest.mark.parametrize("size", [1.0, 30.0])
@pytest.mark.parametrize("rows", [1, 7, 64])
def test_blockwise_loss_is_torchs(rows: int, size: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """With labels that are likely and, at the larger size, with some whose probability fp32 cannot
    hold.
    """
    monkeypatch.setitem(loss_module.BLOCK, "cpu", rows * 50)
    monkeypatch.setattr(loss_module, "ROWS", 1)
    generator = torch.Generator().manual_seed(3)
    hidden = (torch.randn(40, 16, generator=generator) * size).requires_grad_()
    head = torch.randn(50, 16, generator=generator, requires_grad=True)
    labels = torch.randint(0, 50, (40,), generator=generator)
    weights = torch.rand(40, generator=generator) * (torch.rand(40, generator=generator) > 0.3)
    ours = linear_cross_entropy(hidden, head, labels, weights)
    (3 * ours).backward()
    gradients = (hidden.grad.clone(), head.grad.clone())
    hidden.grad = head.grad = None
    losses = torch.nn.functional.cross_entropy(hidden @ head.t(), labels, reduction="none")
    assert (losses.max() > 110) == (size > 1)
    expected = (losses * weights).sum()
    (3 * expected).backward()
    torch.testing.assert_close(ours, expected)
    # The logits' own rounding grows with them.
    torch.testing.assert_close(
        gradients, (hidden.grad, head.grad), atol=1e-5 * size, rtol=1e-5 * size
    )


@pytest.mark.parametrize("kept", [0, 1000])
@pytest.mark.parametrize("interleaved", [True, False])
@pytest.mark.parametrize("length", [1, 64, 200])
def test_attention_by_hand_is_torchs(
    length: int, interleaved: bool, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One block and several, with the probabilities kept and computed again."""
    assert block_rows(length) and not block_rows(
        211
    )  # a prime number above the largest block has none
    monkeypatch.setattr(attention_module, "KEPT", kept)
    ours, torchs = (
        CpuAttention(config(rope_interleaved=interleaved)),
        Attention(config(rope_interleaved=interleaved)),
    )
    torchs.load_state_dict(ours.state_dict())
    cosine, sine = ours.rotary.tables(length, torch.device("cpu"))
    x = torch.randn(
        3, length, 48, generator=torch.Generator().manual_seed(length), requires_grad=True
    )
    results, before = [], torch.get_num_threads()
    for threads, module in (
        (1, torchs),
        (2, ours),
        (1, ours),
    ):  # torch's own is taken on more than one thread
        torch.set_num_threads(threads)
        result = module(x, cosine, sine)
        gradients = torch.autograd.grad(result.square().sum(), (x, module.qkv_proj.weight))
        results.append((result.detach(), *gradients))
    torch.set_num_threads(before)
    torch.testing.assert_close(results[1], results[0], atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(results[2], results[0], atol=2e-5, rtol=1e-4)


def test_compiled_layers_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not shutil.which("g++"):
        pytest.skip("no C++ compiler here")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    ids = torch.randint(0, 101, (2, 32), generator=torch.Generator().manual_seed(0))
    losses = []
    for compiled in (False, True):
        model = model_of(config(num_hidden_layers=1), "torch" if compiled else "cpu")
        if compiled:
            compile_layers(model)
        loss = model(ids).square().mean()
        loss.backward()
        losses.append((loss.detach(), model.token_embedding.weight.grad))
    torch.testing.assert_close(losses[0], losses[1], atol=1e-5, rtol=1e-4)


def test_initial_weights_have_nanotrons_spread_and_depend_on_the_seed_alone() -> None:
    settings = config(hidden_size=192, intermediate_size=512, vocab_size=3000)
    first, second, other = Llama(settings), Llama(settings), Llama(settings)
    for model, seed in ((first, 5), (second, 5), (other, 6)):
        initialize(model, InitMethod(std=0.05), seed)
    for name, parameter in first.named_parameters():
        assert torch.equal(parameter, second.get_parameter(name))
        if parameter.ndim == 1:
            assert torch.equal(parameter, torch.ones_like(parameter))
            continue
        assert not torch.equal(parameter, other.get_parameter(name))
        narrow = "o_proj" in name or "down_proj" in name
        expected = 0.05 / (2 * 3) ** 0.5 if narrow else 0.05
        assert float(parameter.detach().std()) == pytest.approx(expected, rel=0.02), name
