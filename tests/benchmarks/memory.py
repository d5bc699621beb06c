"""Peak memory of one training step with the published vocabulary, against plain transformers (`make
bench BENCH=bench_memory`).

A narrow Llama (hidden 64, one layer) with 128,256 entries at sequence 4096 in fp32: what is
measured is the logits, their softmax and its gradient, 2.1 GB each a sequence where they are whole.
A process each; peak resident memory is the kernel's own account of it.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys

from interleave import run_once

VOCABULARY, SEQUENCE, HIDDEN, INNER = 128256, 4096, 64, 172
BATCHES = (1, 2, 4)


def plain(batch: int) -> float:
    """Make a step as everybody does: transformers' model, its loss, torch.optim.AdamW."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        hidden_size=HIDDEN,
        intermediate_size=INNER,
        num_hidden_layers=1,
        num_attention_heads=1,
        vocab_size=VOCABULARY,
        max_position_embeddings=SEQUENCE,
        tie_word_embeddings=True,
        use_cache=False,
    )
    model = LlamaForCausalLM(config)
    optimizer = torch.optim.AdamW(model.parameters())
    ids = torch.randint(0, VOCABULARY, (batch, SEQUENCE))
    loss = model(input_ids=ids, labels=ids).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return loss.item()


def ours(batch: int) -> float:
    """Make a step as the trainer does."""
    import torch

    from zagreus.model.llama import Llama, initialize
    from zagreus.recipe.schema import AdamW, InitMethod, LlamaConfig, Optimizer, Scheduler
    from zagreus.training.loop import join_ranks
    from zagreus.training.loss import linear_cross_entropy
    from zagreus.training.optimizer import FlatAdamW

    join_ranks("cpu")
    config = LlamaConfig(HIDDEN, INNER, 1, 1, SEQUENCE, VOCABULARY, True, tie_word_embeddings=True)
    model = Llama(config)
    initialize(model, InitMethod(0.02), 0)
    optimizer = FlatAdamW(
        model,
        Optimizer(AdamW(1e-8, 0.9, 0.95, True), Scheduler(1e-3, "constant"), 0, 0.01, 1.0, True),
    )
    ids = torch.randint(0, VOCABULARY, (batch, SEQUENCE + 1))
    hidden = model(ids[:, :-1].contiguous()).flatten(0, 1)
    loss = linear_cross_entropy(
        hidden,
        model.head,
        ids[:, 1:].flatten(),
        torch.full((batch * SEQUENCE,), 1 / (batch * SEQUENCE)),
    )
    loss.backward()
    optimizer.step(1e-3)
    return loss.item()


def available() -> int:
    """Return the bytes of memory that are free to take (MemAvailable of proc(5))."""
    with open("/proc/meminfo") as lines:
        return next(
            int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")
        )


def main() -> None:
    """Without arguments: the benchmark. With them: one step."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--engine", choices=["plain", "ours"], help=argparse.SUPPRESS)
    parser.add_argument("--batch", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.engine:
        print(f"{(plain if arguments.engine == 'plain' else ours)(arguments.batch):.3f}")
        return
    os.environ.setdefault("OMP_NUM_THREADS", str(len(os.sched_getaffinity(0))))
    print(
        "| micro batch | trainer | peak GB | seconds | loss (a guess: 11.76) "
        "|\n|---|---|---|---|---|"
    )
    for batch in BATCHES:
        for engine in ("plain", "ours"):
            # Logits, logarithms of the softmax and the gradient are whole at the same time.
            needed = 3 * batch * SEQUENCE * VOCABULARY * 4
            if engine == "plain" and needed > 0.9 * available():
                print(
                    f"| {batch} | plain | not run: its logits alone are {needed / 1e9:.0f} of "
                    f"{available() / 1e9:.0f} GB free | | |",
                    flush=True,
                )
                continue
            try:
                run = run_once(
                    [sys.executable, "-P", __file__, "--engine", engine, "--batch", str(batch)]
                )
            except subprocess.CalledProcessError as error:
                print(
                    f"| {batch} | {engine} | ended with status {error.returncode} | | |", flush=True
                )
                continue
            print(
                f"| {batch} | {engine} | {run.peak / 1e9:.2f} | {run.wall:.0f} | "
                f"{run.output.strip()} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
