"""The published 0.4B shape on one GPU.

Tokens a second, share of the peak, memory (`make bench BENCH=bench_gpu`, with `torch: cuda`).

bf16 weights with fp32 masters and accumulation, sequence 4096, micro batch 4, one micro batch a
step, random tokens: ours with eager and with compiled layers, and transformers compiled as a whole
under autocast. The share of the peak is by nanotron's formula, 4.136 GFLOP a token, which counts
attention in full.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace

import torch

SEQUENCE, BATCH, WARM, STEPS = 4096, 4, 5, 20


def trainer(compiled: bool) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return our step."""
    from zagreus.model.llama import Llama, initialize
    from zagreus.recipe.read import read_recipe
    from zagreus.training.compilation import compile_layers, compiled_loss
    from zagreus.training.loss import linear_cross_entropy
    from zagreus.training.optimizer import FlatAdamW

    recipe = read_recipe("recipes/pretrain/zagreus.yaml")
    model = Llama(replace(recipe.model.model_config, vocab_size=128256), kernels="torch")
    initialize(model, recipe.model.init_method, 0)
    model = model.to("cuda", torch.bfloat16)
    optimizer = FlatAdamW(model, recipe.optimizer)
    if compiled:
        compile_layers(model)
    gradient_of = compiled_loss() if compiled else None
    weights = torch.full((BATCH * SEQUENCE,), 1 / (BATCH * SEQUENCE), device="cuda")

    def step(ids: torch.Tensor) -> torch.Tensor:
        hidden = model(ids[:, :-1].contiguous()).flatten(0, 1)
        loss = linear_cross_entropy(hidden, model.head, ids[:, 1:].flatten(), weights, gradient_of)
        loss.backward()
        optimizer.step(1e-4)
        return loss.detach()

    return step


def transformers() -> Callable[[torch.Tensor], torch.Tensor]:
    """Return the step of compiled transformers."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from zagreus.model.hf import hf_config
    from zagreus.recipe.read import read_recipe

    recipe = read_recipe("recipes/pretrain/zagreus.yaml")
    config = LlamaConfig(**hf_config(recipe.model.model_config, 128256, SEQUENCE, "float32"))
    model = LlamaForCausalLM(config).to("cuda")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    forward = torch.compile(model)

    def step(ids: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cuda", torch.bfloat16):
            loss = forward(input_ids=ids[:, :-1], labels=ids[:, :-1], use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    return step


def measure(engine: str) -> None:
    """Time one engine and print its row."""
    from zagreus.recipe.cost import flops_per_token
    from zagreus.recipe.read import read_recipe
    from zagreus.training.loop import device_peak

    step = (
        transformers() if engine == "transformers compiled" else trainer(engine == "ours compiled")
    )
    ids = torch.randint(0, 128256, (WARM + STEPS, BATCH, SEQUENCE + 1), device="cuda")
    for number in range(WARM):
        step(ids[number])
    torch.cuda.synchronize()
    started = time.perf_counter()
    for number in range(WARM, WARM + STEPS):
        loss = step(ids[number])
    torch.cuda.synchronize()
    speed = STEPS * BATCH * SEQUENCE / (time.perf_counter() - started)
    peak = device_peak()
    config = read_recipe("recipes/pretrain/zagreus.yaml").model.model_config
    share = (
        f"{speed * flops_per_token(config, 128256, SEQUENCE) / peak:.1%}"
        if peak
        else "unknown peak"
    )
    print(
        f"| {engine} | {speed:,.0f} | {share} | {torch.cuda.max_memory_allocated() / 1e9:.1f} | "
        f"{loss.item():.3f} |",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--engine", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit(
            "no CUDA device here: this benchmark needs one (and images with `torch: cuda`)"
        )
    if arguments.engine:
        measure(arguments.engine)
        return
    print(
        f"{torch.cuda.get_device_name()}, torch {torch.__version__}\n| trainer | tokens/s | share "
        "of peak | GB | loss |\n|---|---|---|---|---|"
    )
    for engine in (
        "transformers compiled",
        "ours",
        "ours compiled",
    ):  # a process each, for the memory's sake
        subprocess.run([sys.executable, "-P", __file__, "--engine", engine], check=True)


if __name__ == "__main__":
    main()
