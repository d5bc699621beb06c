"""What a GPU runs, on a CPU.

Layers in bf16 at the published width, the loss as one function, one graph for all layers.
"""

import json
import re
import sysconfig
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch._dynamo
from small import Training
from torch._dynamo.backends.debugging import aot_eager
from torch._dynamo.testing import CompileCounterWithBackend

from zagreus.errors import InputError
from zagreus.model.llama import Llama, initialize
from zagreus.recipe.read import read_recipe
from zagreus.recipe.schema import InitMethod
from zagreus.training.compilation import compilation, compile_layers, compiled_loss
from zagreus.training.distributed import Ranks
from zagreus.training.loop import _Trainer
from zagreus.training.loss import (
    SoftmaxGradient,
    _adds_in_fp32,
    _rows,
    linear_cross_entropy,
    softmax_gradient,
    softmax_gradient_in_passes,
)
from zagreus.training.optimizer import FlatAdamW
from zagreus.training.reduction import bounds_at_parameters
from zagreus.training.segment import Segment

PUBLISHED = read_recipe("recipes/pretrain/zagreus.yaml")
POSITIONS = 128


def published(kernels: str, dtype: torch.dtype, layers: int = 1, width: int = 960) -> Llama:
    """The published shape with few layers and a small vocabulary, narrower where the width has no
    part in a test.
    """
    config = replace(
        PUBLISHED.model.model_config, num_hidden_layers=layers, vocab_size=512, hidden_size=width
    )
    if width < 960:
        config = replace(
            config,
            intermediate_size=2 * width,
            num_attention_heads=width // 32,
            num_key_value_heads=None,
        )
    model = Llama(config, kernels=kernels)  # type: ignore[arg-type]
    initialize(model, InitMethod(0.03), 1)
    return model.to(dtype)


def relative(actual: torch.Tensor, expected: torch.Tensor) -> float:
    """The norm of the difference as a share of the norm."""
    return float((actual.float() - expected).norm() / expected.norm())


def outputs(model: Llama, ids: torch.Tensor) -> list[torch.Tensor]:
    """Hidden states and gradients of a pass."""
    hidden = model(ids)
    weight = torch.randn(hidden.shape, generator=torch.Generator().manual_seed(2))
    (hidden.float() * weight).sum().backward()
    return [hidden.detach(), *(parameter.grad for parameter in model.parameters())]


def test_layers_at_the_published_width() -> None:
    """In fp32 the same as the layers of a CPU; in bf16 as near as 8 bits are.

    Less than 2 % of the norm of each gradient.
    """
    ids = torch.randint(0, 512, (2, POSITIONS), generator=torch.Generator().manual_seed(0))
    expected = outputs(published("cpu", torch.float32), ids)
    for dtype, limit in ((torch.float32, 1e-5), (torch.bfloat16, 0.02)):
        for actual, exact in zip(outputs(published("torch", dtype), ids), expected, strict=True):
            assert actual.dtype == dtype
            assert relative(actual, exact) < limit


def test_heads_stay_where_the_projection_wrote_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attention gets transposed views of [B, S, N, D]; values are not copied at all."""
    seen = []
    attention = torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(
        torch.nn.functional,
        "scaled_dot_product_attention",
        lambda *tensors, **options: (seen.extend(tensors), attention(*tensors, **options))[1],
    )
    model = published("torch", torch.bfloat16)
    qkv = []
    model.decoder[0].attn.qkv_proj.register_forward_hook(lambda _, __, out: qkv.append(out))
    model(torch.zeros(2, POSITIONS, dtype=torch.int64))
    for tensor, heads in zip(seen, (15, 5, 5), strict=True):
        assert (
            tensor.shape == (2, heads, POSITIONS, 64)
            and tensor.stride()[2] >= heads * 64
            and tensor.stride()[3] == 1
        )
    assert seen[2].untyped_storage().data_ptr() == qkv[0].untyped_storage().data_ptr()


def test_a_model_for_a_cpu_is_refused_elsewhere() -> None:
    model = published("cpu", torch.float32).to("meta")
    with pytest.raises(ValueError, match="kernels of a CPU was given a tensor on meta"):
        model(torch.zeros(1, 4, dtype=torch.int64, device="meta"))
    with torch.device("meta"):
        assert Llama(PUBLISHED.model.model_config, 512).kernels == "torch"


@pytest.mark.parametrize("gradient_of", [softmax_gradient, softmax_gradient_in_passes])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("tokens", [1, 255, 600])
def test_the_loss_of_a_gpu_is_torchs(
    tokens: int, dtype: torch.dtype, gradient_of: SoftmaxGradient
) -> None:
    generator = torch.Generator().manual_seed(3)
    hidden = (torch.randn(tokens, 32, generator=generator) * 3).to(dtype).requires_grad_()
    head = torch.randn(300, 32, generator=generator).to(dtype).requires_grad_()
    labels = torch.randint(0, 300, (tokens,), generator=generator)
    weights = torch.rand(tokens, generator=generator) * (
        torch.rand(tokens, generator=generator) > 0.3
    )
    ours = linear_cross_entropy(hidden, head, labels, weights, gradient_of)
    (3 * ours).backward()
    exact_hidden, exact_head = (
        tensor.detach().float().requires_grad_() for tensor in (hidden, head)
    )
    losses = torch.nn.functional.cross_entropy(
        exact_hidden @ exact_head.t(), labels, reduction="none"
    )
    (3 * (losses * weights).sum()).backward()
    limit = 1e-5 if dtype == torch.float32 else 0.02
    assert head.grad is not None and head.grad.is_contiguous() and head.grad.dtype == dtype
    assert float(ours.detach()) == pytest.approx(
        float((losses * weights).sum().detach()), rel=limit, abs=1e-6
    )
    for actual, exact in ((hidden.grad, exact_hidden.grad), (head.grad, exact_head.grad)):
        assert float((actual.float() - exact).norm()) <= limit * float(exact.norm()) + 1e-6


def test_the_heads_gradient_is_summed_within_the_product_where_torch_can(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A CPU cannot.

    One kernel adds to the fp32 sum elsewhere, and the sum is neither copied nor transposed.
    """
    assert not _adds_in_fp32(torch.device("cpu"), torch.bfloat16)
    if not _adds_in_fp32(torch.device("meta"), torch.bfloat16):
        assert torch.__version__ < (2, 13)  # of the CUDA 12 build, 2.10
        pytest.skip(f"torch {torch.__version__} adds no product to an fp32 matrix")
    called = []
    addmm = torch.addmm
    monkeypatch.setattr(
        torch,
        "addmm",
        lambda *tensors, **options: (
            called.append((tensors[0], options["out"])),
            addmm(*tensors, **options),
        )[1],
    )
    hidden, head = (
        torch.empty(rows, 64, dtype=torch.bfloat16, device="meta", requires_grad=True)
        for rows in (512, 2_000_000)
    )
    labels, weights = (
        torch.empty(512, dtype=torch.int64, device="meta"),
        torch.empty(512, device="meta"),
    )
    linear_cross_entropy(hidden, head, labels, weights, softmax_gradient).backward()
    assert len(called) == 2  # blocks of 256 tokens
    assert all(
        total is out and total.shape == (2_000_000, 64) and total.dtype == torch.float32
        for total, out in called
    )
    assert called[0][0] is called[1][0] and head.grad is not None and head.grad.stride() == (64, 1)


@pytest.mark.parametrize(
    ("entries", "rows"), [(128_256, 4096), (32_000, 16_640), (4_000_000, 256), (262_144, 2048)]
)
def test_blocks_of_a_gpu_fill_its_tiles(entries: int, rows: int) -> None:
    """The published vocabulary: 16,384 tokens are four equal blocks."""
    assert _rows(torch.empty(1, 8, device="meta"), torch.empty(entries, 8, device="meta")) == rows
    assert rows % 256 == 0


def test_one_graph_for_all_layers_and_no_other_over_steps() -> None:
    """Training, validation and its short last batch: dynamo's counters."""
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    model = published("torch", torch.bfloat16, 6, 64)
    optimizer = FlatAdamW(model, PUBLISHED.optimizer)
    graphs = CompileCounterWithBackend("aot_eager")
    loss_graphs = CompileCounterWithBackend("aot_eager")
    compile_layers(model, graphs)
    gradient_of = compiled_loss(loss_graphs)
    weights = torch.full((64,), 1 / 64)

    def step() -> None:
        ids = torch.randint(0, 512, (2, 33))
        hidden = model(ids[:, :-1].contiguous()).flatten(0, 1)
        linear_cross_entropy(
            hidden, model.head, ids[:, 1:].flatten(), weights, gradient_of
        ).backward()
        optimizer.step(1e-3)

    for _ in range(3):
        step()
        assert graphs.frame_count == 1 and loss_graphs.frame_count == 1
    with torch.no_grad():
        for sequences in (2, 1):
            model(torch.zeros(sequences, 32, dtype=torch.int64))
    validation = graphs.frame_count
    assert validation <= 3  # without gradients, and for a short batch
    step()
    assert graphs.frame_count == validation and loss_graphs.frame_count == 1
    assert not torch._dynamo.utils.counters["graph_break"]


def test_a_break_would_be_seen() -> None:
    """The counters of the test above, for a layer that cannot be one graph."""
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    model = published("torch", torch.bfloat16, 1, 64)
    mlp = model.decoder[0].mlp
    forward = mlp.forward

    def broken(x: torch.Tensor) -> torch.Tensor:
        torch._dynamo.graph_break()
        return forward(x)

    mlp.forward = broken  # type: ignore[method-assign]
    compile_layers(model, aot_eager)
    model(torch.zeros(1, 8, dtype=torch.int64))
    assert torch._dynamo.utils.counters["graph_break"]
    torch._dynamo.reset()


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("clip", [1e-3, 1e3, None])
def test_fewer_passes_give_the_same_update(clip: float | None, fused: bool) -> None:
    recipe = replace(
        PUBLISHED.optimizer,
        clip_grad=clip,
        optimizer_factory=replace(PUBLISHED.optimizer.optimizer_factory, torch_adam_is_fused=fused),
    )
    results = []
    for fewer in (False, True):
        model = published("torch", torch.bfloat16, 1, 64)
        optimizer = FlatAdamW(model, recipe, fewer_passes=fewer)
        norms = []
        for number in range(3):
            for micro_batch in range(2):
                ids = torch.randint(
                    0,
                    512,
                    (1, 16),
                    generator=torch.Generator().manual_seed(10 * number + micro_batch),
                )
                model(ids).float().square().mean().backward()
            norms.append(float(optimizer.step(1e-3)))
        results.append(
            (
                norms,
                optimizer.master.clone(),
                optimizer.moments["exp_avg"].clone(),
                optimizer.moments["exp_avg_sq"].clone(),
            )
        )
    plain, lean = results
    assert lean[0] == pytest.approx(plain[0], rel=1e-3)  # a last bit of a weight, seen through bf16
    for ours, other in zip(lean[1:], plain[1:], strict=True):
        torch.testing.assert_close(ours, other, atol=1e-6, rtol=1e-2)


def test_the_embedding_has_a_bucket_of_its_own() -> None:
    """Its gradient is the last one.

    246 MB of it wait, and not the two layers before it too (581 MB).
    """
    with torch.device("meta"):
        model = Llama(PUBLISHED.model.model_config, PUBLISHED.model.padded_vocab_size).to(
            torch.bfloat16
        )
    optimizer = FlatAdamW(model, PUBLISHED.optimizer)
    embedding = 128_256 * 960
    together, apart = (bounds_at_parameters(optimizer, 100 * 2**20, flag) for flag in (False, True))
    assert together[-1] == (0, 145_249_920) and apart[-1] == (0, embedding)
    assert apart[:-2] == together[:-1] and apart[-2] == (embedding, together[-1][1])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_recomputed_layers_give_the_same_bits(dtype: str, tmp_path: Path) -> None:
    results = []
    for recompute in (False, True):
        training = Training(tmp_path / str(recompute))
        training.write_recipe(
            model={"dtype": dtype},
            parallelism={"recompute_layer": recompute},
            tokens={"sequence_length": 64},
        )
        trainer = _Trainer(
            Segment(read_recipe(training.recipe), 4, 0, ""), Ranks(0, 1, torch.device("cpu"))
        )
        trainer.resume()
        records = [trainer.train_step(False)[0] for _ in range(4)]
        results.append(
            (
                [(record["loss"], record["grad_norm"]) for record in records],
                trainer.optimizer.weights.clone(),
            )
        )
    assert results[0][0] == results[1][0] and torch.equal(results[0][1], results[1][1])


def test_compiled_layers_are_recomputed_too() -> None:
    """The same gradients, and no graph but the one."""
    torch._dynamo.reset()
    ids = torch.randint(0, 512, (2, 32), generator=torch.Generator().manual_seed(0))
    results = []
    for recompute in (False, True):
        model = published("torch", torch.bfloat16, 3, 64)
        graphs = CompileCounterWithBackend("aot_eager")
        compile_layers(model, graphs)
        model.recompute_layer = recompute
        for _ in range(2):
            model.zero_grad()
            results.append(outputs(model, ids))
        assert graphs.frame_count == 1
    for result in results[1:]:
        assert all(
            torch.equal(actual, expected)
            for actual, expected in zip(result, results[0], strict=True)
        )


@pytest.mark.parametrize("kernels", ["cpu", "torch"])
def test_recomputed_layers_keep_their_inputs_only(kernels: str) -> None:
    ids = torch.zeros(2, POSITIONS, dtype=torch.int64)
    saved = []
    for recompute in (False, True):
        model = published(kernels, torch.float32, 4, 64)
        model.recompute_layer = recompute
        kept: dict[int, int] = {}

        def keep(tensor: torch.Tensor, kept: dict[int, int] = kept) -> torch.Tensor:
            if not isinstance(tensor, torch.nn.Parameter):
                kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            hidden = model(ids)
        saved.append(sum(kept.values()))
        hidden.sum().backward()
    assert saved[1] < saved[0] / 4


def _machine(
    folder: Path, monkeypatch: pytest.MonkeyPatch, programs: list[str], triton: bool, headers: bool
) -> None:
    """A machine that has these programs, and Python's headers and triton or not."""
    folder.mkdir()
    for program in programs:
        (folder / program).write_text("#!/bin/sh\n")
        (folder / program).chmod(0o755)
    if headers:
        (folder / "Python.h").touch()
    monkeypatch.setenv("PATH", str(folder))
    for name in ("CC", "CXX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(folder))
    monkeypatch.setattr(
        "zagreus.training.compilation.importlib.util.find_spec",
        lambda name: object() if triton else None,
    )


ALL = ["gcc", "g++"]


@pytest.mark.parametrize(
    ("setting", "device", "programs", "triton", "headers", "on", "said"),
    [
        (None, "cuda", ALL, True, True, True, "on CUDA by itself"),
        (None, "cuda", ["clang"], True, True, True, "on CUDA by itself"),
        (None, "cuda", [], True, True, False, "no compiler 'gcc'"),
        (
            None,
            "cuda",
            ALL,
            True,
            False,
            False,
            "Python.h' on this machine or in this image: a third slower",
        ),
        (None, "cuda", ALL, False, True, False, "no package triton"),
        (None, "cpu", ALL, True, True, False, "by hand"),
        (False, "cuda", ALL, True, True, False, "zagreus.compile: false"),
        (True, "cuda", ALL, True, True, True, "zagreus.compile: true"),
        (True, "cuda", ["g++"], True, True, None, "zagreus.compile: true: no compiler 'gcc'"),
        (True, "cuda", ALL, True, False, None, "zagreus.compile: true: no header "),
        (True, "cpu", ["g++"], False, False, True, "zagreus.compile: true"),
        (True, "cpu", ["gcc"], True, True, None, "zagreus.compile: true: no compiler 'g++'"),
    ],
)
def test_when_layers_are_compiled(
    setting, device, programs, triton, headers, on, said, tmp_path, monkeypatch
) -> None:
    _machine(tmp_path / "bin", monkeypatch, programs, triton, headers)
    if on is None:
        with pytest.raises(InputError, match=re.escape(said)):
            compilation(setting, device)
        return
    decision = compilation(setting, device)
    assert decision.on == on and said in decision.reason


def test_the_log_says_how_it_trained(tmp_path: Path) -> None:
    training = Training(tmp_path)
    training.write_recipe(parallelism={"recompute_layer": True})
    done = training.train(2)
    assert done.returncode == 0, done.stderr
    assert "memory: activations of a layer are computed again" in done.stderr
    expected = {
        "compile": False,
        "zero_stage": 0,
        "recompute_layer": True,
        "ranks": 1,
        "device": "cpu",
    }
    assert expected.items() <= training.log(2)[0].items()
    assert expected.items() <= json.loads((tmp_path / "2.run.json").read_text()).items()
