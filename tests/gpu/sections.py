"""The sections of first.py.

Each yields figures as it has them, and raises where something does not hold.
"""

from __future__ import annotations

import gzip
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from engine import PUBLISHED, TINY, Engine, Shape, backend, batch, compiler_missing, recipe_of
from first import note
from torch.nn import functional

from zagreus.training.compilation import compiled_loss

Figures = Iterator[dict[str, Any]]


@dataclass(frozen=True)
class Setting:
    """Where the sections run, and how large."""

    device: str
    tiny: bool
    out: Path

    @property
    def shape(self) -> Shape:
        """The model."""
        return TINY if self.tiny else PUBLISHED

    @property
    def cuda(self) -> bool:
        """Whether it is a GPU."""
        return self.device == "cuda"


def run_section(name: str, setting: Setting) -> None:
    """Run one section; each figure is written as soon as it is there."""
    torch.set_num_threads(1)
    if setting.cuda and not torch.cuda.is_available():
        raise SystemExit("no CUDA device here; the rehearsal is --tiny --device cpu")
    for figures in SECTIONS[name](setting):
        note(setting.out, {"section": name, **figures})


def facts(setting: Setting) -> Figures:
    """What there is: versions, compiler, the attention kernels that run."""
    import numpy

    yield {
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "python": platform.python_version(),
        "numpy": numpy.__version__,
    }
    header = Path(sysconfig.get_path("include")) / "Python.h"
    yield {
        "gcc": shutil.which("gcc"),
        "Python.h": header.exists(),
        "missing": compiler_missing(setting.device),
    }
    if setting.cuda:
        query = (
            "name,driver_version,clocks.sm,clocks.max.sm,power.limit,memory.total,ecc.mode.current"
        )
        smi = subprocess.run(
            ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader"],
            capture_output=True,
            text=True,
        )
        yield {
            "gpu": smi.stdout.strip(),
            "cudnn": torch.backends.cudnn.version(),
            "nccl": str(torch.cuda.nccl.version()),
        }
    for name, work in attention_backends(setting).items():
        try:
            work()
            yield {"sdpa": name, "runs": True}
        except RuntimeError as error:
            yield {"sdpa": name, "runs": False, "why": str(error).splitlines()[0][:120]}


def attention_backends(setting: Setting) -> dict[str, Callable[[], Any]]:
    """Return forward and backward of attention at the model's shape, by kernel.

    `chosen` is torch's own choice.
    """
    from torch.nn.attention import SDPBackend, sdpa_kernel

    shape, dtype = setting.shape, torch.bfloat16
    width = shape.hidden // shape.heads
    query, key, value = (
        torch.randn(
            4, heads, shape.sequence, width, device=setting.device, dtype=dtype, requires_grad=True
        )
        for heads in (shape.heads, shape.pairs, shape.pairs)
    )

    def attend(*chosen: Any) -> None:
        def mix() -> torch.Tensor:
            return functional.scaled_dot_product_attention(
                query, key, value, is_causal=True, enable_gqa=True
            )

        if chosen:
            with sdpa_kernel(list(chosen)):
                mixed = mix()
        else:
            mixed = mix()
        mixed.backward(torch.ones_like(mixed))

    kernels = {
        "cudnn": SDPBackend.CUDNN_ATTENTION,
        "flash": SDPBackend.FLASH_ATTENTION,
        "efficient": SDPBackend.EFFICIENT_ATTENTION,
    }
    made: dict[str, Callable[[], Any]] = {"chosen": attend}
    return made | {name: (lambda kernel=kernel: attend(kernel)) for name, kernel in kernels.items()}


def ceilings(setting: Setting) -> Figures:
    """What the card can do at the model's own shapes: the roof that every other figure is under."""
    shape, device = setting.shape, setting.device
    source = torch.ones(2**20 if setting.tiny else 2**30, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    seconds = timed(setting, lambda: target.copy_(source))
    yield {"copy_tb_s": round(2 * len(source) / seconds / 1e12, 4)}
    width, heads = shape.hidden, shape.hidden // shape.heads
    matrices = {
        "qkv": (width, (shape.heads + 2 * shape.pairs) * heads),
        "o": (width, width),
        "gate_up": (width, 2 * shape.inner),
    }
    matrices |= {"down": (shape.inner, width), "head": (width, shape.vocabulary)}
    for tokens in (64,) if setting.tiny else (16384, 32768, 65536):
        for name, (inputs, outputs) in matrices.items():
            rows = min(tokens, 4096) if name == "head" else tokens  # the loss takes blocks
            x, y = (
                torch.randn(rows, size, device=device, dtype=torch.bfloat16)
                for size in (inputs, outputs)
            )
            weight = torch.randn(outputs, inputs, device=device, dtype=torch.bfloat16)
            products = {
                "forward": lambda: x @ weight.t(),  # noqa: B023
                "dx": lambda: y @ weight,  # noqa: B023
                "dw": lambda: y.t() @ x,  # noqa: B023
            }
            speeds = {
                f"{key}_tflops": round(2 * rows * inputs * outputs / timed(setting, work) / 1e12, 3)
                for key, work in products.items()
            }
            yield {"gemm": name, "tokens": rows, **speeds}
    # Causal: half of the score matrix; the backward pass recomputes, 2.5 forwards.
    operations = 3.5 * 4 * 4 * shape.heads * shape.sequence**2 * heads / 2
    for name, work in attention_backends(setting).items():
        try:
            yield {"attention": name, "tflops": round(operations / timed(setting, work) / 1e12, 3)}
        except RuntimeError as error:
            yield {"attention": name, "why": str(error).splitlines()[0][:120]}


def loss(setting: Setting) -> Figures:
    """The loss head against fp32 autograd of cross_entropy.

    Loss 1e-5, gradients 1e-4 (fp32) and 1e-2 (bf16).
    """
    from zagreus.training.loss import linear_cross_entropy

    shape = setting.shape
    tokens = 96 if setting.tiny else 2048
    generator = torch.Generator().manual_seed(0)
    hidden32 = torch.randn(tokens, shape.hidden, generator=generator)
    head32 = torch.randn(shape.vocabulary, shape.hidden, generator=generator) * 0.02
    labels = torch.randint(0, shape.vocabulary, (tokens,), generator=generator).to(setting.device)
    weights = torch.full((tokens,), 1 / tokens, device=setting.device)
    for dtype, tolerance in ((torch.float32, 1e-4), (torch.bfloat16, 1e-2)):
        values = [tensor.to(setting.device, dtype) for tensor in (hidden32, head32)]
        exact = [tensor.clone().float().requires_grad_() for tensor in values]
        expected = functional.cross_entropy(exact[0] @ exact[1].t(), labels)
        expected.backward()
        for name, further in loss_variants(setting).items():
            inputs = [tensor.clone().requires_grad_() for tensor in values]

            def once(
                inputs: list[torch.Tensor] = inputs, further: dict[str, Any] = further
            ) -> torch.Tensor:
                for tensor in inputs:
                    tensor.grad = None
                result = linear_cross_entropy(inputs[0], inputs[1], labels, weights, **further)
                result.backward()
                return result.detach()

            result = once()
            off = abs(float(result) - float(expected)) / float(expected)
            errors = [
                relative(tensor.grad, reference.grad)
                for tensor, reference in zip(inputs, exact, strict=True)
            ]
            peak = peak_of(setting, once)
            record = {
                "loss": name,
                "dtype": str(dtype),
                "off": off,
                "hidden_error": errors[0],
                "head_error": errors[1],
            }
            yield {**record, "ms": round(timed(setting, once) * 1e3, 3), "peak_gb": peak}
            limit = 1e-5 if dtype == torch.float32 else 1e-3
            require(
                off < limit and max(errors) < tolerance,
                f"{name}, {dtype}: loss off by {off:.1e}, gradients by {max(errors):.1e}",
            )


def loss_variants(setting: Setting) -> dict[str, dict[str, Any]]:
    """Return further arguments of the loss by variant: eager, and compiled where that can be."""
    variants: dict[str, dict[str, Any]] = {"eager": {}}
    if not compiler_missing(setting.device):
        variants["fused"] = {"gradient_of": compiled_loss(backend(setting.device))}
    return variants


def same_training(setting: Setting) -> Figures:
    """The same losses, step by step: the device against a CPU, compiled against eager."""
    shape = replace(
        setting.shape,
        layers=2 if setting.tiny else 4,
        sequence=setting.shape.sequence if setting.tiny else 512,
    )
    shape = replace(shape, vocabulary=min(shape.vocabulary, 8192))
    steps = 4 if setting.tiny else 20

    def losses(device: str, dtype: torch.dtype, **options: bool) -> list[float]:
        engine = Engine(shape, device, dtype, **options)
        return [
            float(engine.step(batch(shape, 2, device, step % 4), 1e-3)) for step in range(steps)
        ]

    references = {dtype: losses("cpu", dtype) for dtype in (torch.float32, torch.bfloat16)}
    cases: list[tuple[str, torch.dtype, float, dict[str, bool]]] = [
        ("fp32, eager", torch.float32, 1e-4, {}),
        ("bf16 with masters, eager", torch.bfloat16, 1e-2, {}),
    ]
    if not compiler_missing(setting.device):
        cases.append(("bf16, layers compiled", torch.bfloat16, 1e-2, {"compiled": True}))
        cases.append(
            (
                "bf16, layers and loss compiled",
                torch.bfloat16,
                1e-2,
                {"compiled": True, "fused": True},
            )
        )
    for name, dtype, tolerance, options in cases:
        actual = losses(setting.device, dtype, **options)
        off = max(
            abs(one - other) / other for one, other in zip(actual, references[dtype], strict=True)
        )
        yield {
            "training": name,
            "steps": steps,
            "largest_difference": off,
            "allowed": tolerance,
            "last_loss": actual[-1],
        }
        require(
            off < tolerance,
            f"{name}: losses differ from a CPU's by {off:.1e}, allowed {tolerance:g}",
        )


def ours(setting: Setting) -> Figures:
    """Tokens a second, share of the peak by nanotron's formula, memory.

    Three rounds of ten steps, interleaved.
    """
    variants = {"eager mb 4": (4, {})}
    if not compiler_missing(setting.device):
        for rows in (4,) if setting.tiny else (4, 8, 16):
            variants[f"compiled mb {rows}"] = (rows, {"compiled": True})
            variants[f"compiled, fused loss mb {rows}"] = (rows, {"compiled": True, "fused": True})
    for name, (rows, options) in variants.items():
        try:
            yield {"variant": name, **speed(setting, rows, options)}
        except torch.cuda.OutOfMemoryError:
            yield {"variant": name, "why": "out of memory"}


def speed(setting: Setting, rows: int, options: dict[str, bool]) -> dict[str, Any]:
    """Return the figures of one variant."""
    from zagreus.recipe.cost import flops_per_token
    from zagreus.training.loop import device_peak

    shape = setting.shape
    if setting.cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    engine = Engine(shape, setting.device, torch.bfloat16, **options)
    ids = batch(shape, rows, setting.device)
    started = time.perf_counter()
    engine.step(ids)
    synchronize(setting)
    first = time.perf_counter() - started
    rounds, steps = (2, 1) if setting.tiny else (3, 10)
    engine.step(ids)
    seconds = []
    for _ in range(rounds):
        synchronize(setting)
        started = time.perf_counter()
        for _ in range(steps):
            last = engine.step(ids)
        synchronize(setting)
        seconds.append((time.perf_counter() - started) / steps)
    tokens = rows * shape.sequence / statistics.median(seconds)
    peak = device_peak() if setting.cuda else None
    formula = flops_per_token(recipe_of(shape).model.model_config, shape.vocabulary, shape.sequence)
    figures: dict[str, Any] = {
        "tokens_per_second": round(tokens),
        "mfu": round(tokens * formula / peak, 4) if peak else None,
    }
    figures |= {
        "seconds": [round(value, 4) for value in seconds],
        "first_step_seconds": round(first, 1),
        "loss": round(float(last), 4),
    }
    return figures | {
        "peak_gb": round(torch.cuda.max_memory_allocated() / 1e9, 2) if setting.cuda else None
    }


KINDS = {
    "attention": ("flash", "fmha", "attention", "sdpa"),
    "gemm": ("gemm", "cutlass", "nvjet", "mm", "cublas", "addmm"),
    "optimizer": ("adam",),
    "sums": ("nccl", "all_reduce"),
    "copies": ("memcpy", "memset", "copy_"),
}


def profile(setting: Setting) -> Figures:
    """Where three steps of the best variant go, by kind of kernel; the trace beside it."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as record

    compiled = not compiler_missing(setting.device)
    engine = Engine(
        setting.shape, setting.device, torch.bfloat16, compiled=compiled, fused=compiled
    )
    ids = batch(setting.shape, 2 if setting.tiny else 16, setting.device)
    for _ in range(2):
        engine.step(ids)
    synchronize(setting)
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if setting.cuda else [])]
    with record(activities=activities) as profiler:
        for _ in range(1 if setting.tiny else 3):
            engine.step(ids)
        synchronize(setting)
    kinds: dict[str, float] = {}
    for event in profiler.key_averages():
        spent = event.self_device_time_total if setting.cuda else event.self_cpu_time_total
        kind = next(
            (
                kind
                for kind, parts in KINDS.items()
                if any(part in event.key.lower() for part in parts)
            ),
            "element-wise",
        )
        kinds[kind] = kinds.get(kind, 0.0) + spent / 1e3
    whole = sum(kinds.values())
    yield {
        "ms": round(whole, 2),
        **{
            kind: f"{spent / whole:.1%}"
            for kind, spent in sorted(kinds.items(), key=lambda item: -item[1])
        },
    }
    trace = setting.out / "trace.json"
    profiler.export_chrome_trace(str(trace))
    with open(trace, "rb") as plain, gzip.open(setting.out / "trace.json.gz", "wb") as packed:
        shutil.copyfileobj(plain, packed)
    trace.unlink()
    yield {"trace_mb": round((setting.out / "trace.json.gz").stat().st_size / 1e6, 2)}


def program(setting: Setting) -> Figures:
    """scripts/pretrain.py itself: trained in one go, and stopped by a signal and resumed.

    The same losses. A
    token beyond the vocabulary ends it in one line."""
    from program import Pretraining

    whole = Pretraining(setting, "whole")
    seconds, errors = whole.run()
    yield {"program": "in one go", "seconds": round(seconds, 1), "steps": len(whole.losses())}
    cut = Pretraining(setting, "cut")
    stopped = cut.stop_at(whole.steps // 2, signal.SIGUSR2)
    cut.run()
    yield {
        "program": "stopped and resumed",
        "stopped_before_the_end": stopped,
        "equal": cut.losses() == whole.losses(),
    }
    if setting.cuda:  # sums on a GPU may differ in their last bits
        off = max(
            abs(one - other) / other
            for one, other in zip(cut.losses(), whole.losses(), strict=True)
        )
        require(off < 1e-3, f"losses after a resume differ by {off:.1e}")
    else:
        require(cut.losses() == whole.losses(), "losses after a resume differ")
    bad = Pretraining(setting, "bad", damage=True)
    _, errors = bad.run(expect=2)
    said = [line for line in errors.splitlines() if "error: " in line]
    yield {"program": "a token beyond the vocabulary", "said": said[-1][-160:] if said else None}
    require(
        len(said) == 1 and "vocabulary" in said[0] and "Traceback" not in errors,
        f"expected one line: {errors[-300:]}",
    )
    if setting.cuda:
        yield {"syncs_per_step": syncs(setting)}


def syncs(setting: Setting) -> int:
    """Return how often a step waits for the GPU."""
    import warnings

    engine, ids = Engine(setting.shape, "cuda", torch.bfloat16), batch(setting.shape, 1, "cuda")
    engine.step(ids)
    torch.cuda.set_sync_debug_mode("warn")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        engine.step(ids)
    torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(warning.message) for warning in caught)


def nccl(setting: Setting) -> Figures:
    """One rank, sums forced on.

    The gradients stay what they are, and the sums begin within the backward pass.
    """
    import torch.distributed as dist

    from zagreus.training.reduction import GradientSum

    os.environ |= {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "29513",
        "RANK": "0",
        "WORLD_SIZE": "1",
    }
    dist.init_process_group("nccl" if setting.cuda else "gloo")
    ids = batch(setting.shape, 2, setting.device)
    plain = Engine(setting.shape, setting.device, torch.bfloat16)
    plain.loss(ids)
    summed = Engine(setting.shape, setting.device, torch.bfloat16)
    sums = GradientSum(summed.model, summed.optimizer, 2**16 if setting.tiny else 100 * 2**20)
    sums.expect_last_backward()
    summed.loss(ids)
    sums.wait()
    synchronize(setting)
    equal = torch.equal(plain.optimizer.gradients, summed.optimizer.gradients)
    yield {"gradients_equal": equal, "sums": len(sums.buckets), "in_backward": sums.in_backward}
    require(setting.cuda or equal, "gradients changed in a sum over one rank")
    off = relative(summed.optimizer.gradients, plain.optimizer.gradients)
    require(
        off < 1e-2 and sums.in_backward > 0,
        f"gradients differ by {off:.1e}, {sums.in_backward} sums in the backward pass",
    )
    dist.destroy_process_group()


def memory(setting: Setting) -> Figures:
    """Does micro batch 4 fit a card of 40 GB: eager, compiled."""
    if setting.cuda:
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, 40e9 / total))
    for name, options in {"eager": {}, "compiled": {"compiled": True}}.items():
        if name == "compiled" and (setting.tiny or compiler_missing(setting.device)):
            continue
        try:
            yield {
                "memory": name,
                "fits_40_gb": True,
                "peak_gb": speed(setting, 4, options)["peak_gb"],
            }
        except torch.cuda.OutOfMemoryError:
            yield {"memory": name, "fits_40_gb": False}


def rival(setting: Setting) -> Figures:
    """transformers, compiled as a whole under autocast, at the same shape."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from zagreus.model.hf import hf_config

    shape = setting.shape
    content = hf_config(
        recipe_of(shape).model.model_config, shape.vocabulary, shape.sequence, "float32"
    )
    model = LlamaForCausalLM(LlamaConfig(**content)).to(setting.device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    forward = torch.compile(model, backend=backend(setting.device))
    ids = batch(shape, 2 if setting.tiny else 4, setting.device)

    def step() -> None:
        with torch.autocast(setting.device, torch.bfloat16):
            step_loss = forward(input_ids=ids[:, :-1], labels=ids[:, :-1], use_cache=False).loss
        step_loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    seconds = timed(setting, step)
    yield {
        "variant": "transformers compiled",
        "tokens_per_second": round(len(ids) * shape.sequence / seconds),
    }


def timed(setting: Setting, work: Callable[[], Any]) -> float:
    """Return the seconds of one call: the median of some, after two that set things up."""
    for _ in range(2):
        work()
    seconds = []
    for _ in range(2 if setting.tiny else 5):
        synchronize(setting)
        started = time.perf_counter()
        work()
        synchronize(setting)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def peak_of(setting: Setting, work: Callable[[], Any]) -> float | None:
    """Return the GB that a call needs at its peak; None on a CPU."""
    if not setting.cuda:
        return None
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    work()
    return round((torch.cuda.max_memory_allocated() - before) / 1e9, 3)


def synchronize(setting: Setting) -> None:
    """Wait until the GPU has done all."""
    if setting.cuda:
        torch.cuda.synchronize()


def relative(actual: torch.Tensor | None, expected: torch.Tensor | None) -> float:
    """Return the norm of a difference as a share of the norm."""
    assert actual is not None and expected is not None
    return float((actual.float() - expected.float()).norm() / expected.float().norm())


def require(holds: bool, otherwise: str) -> None:
    """End the section where something does not hold."""
    if not holds:
        sys.stderr.write(f"does not hold: {otherwise}\n")
        raise SystemExit(1)


SECTIONS: dict[str, Callable[[Setting], Figures]] = {
    "facts": facts,
    "ceilings": ceilings,
    "loss": loss,
    "same_training": same_training,
    "ours": ours,
    "profile": profile,
    "program": program,
    "nccl": nccl,
    "memory": memory,
    "rival": rival,
}
