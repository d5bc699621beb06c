"""The trainers that tests/benchmarks/pretrain.py compares, each in a process of its own that makes
steps when it is told to.

A line with a number comes in, so many optimizer steps are made, a line of JSON goes out: CPU
seconds (of all ranks), wall seconds, the last step's loss. Batches are the windows of one token
shard in their order; where it is possible, the first weights are the same too.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch


def answer(steps: Callable[[int], float]) -> None:
    """Make steps as they are asked for, until the input ends."""
    for line in sys.stdin:
        cpu, wall = time.process_time(), time.perf_counter()
        loss = steps(int(line))
        print(
            json.dumps(
                {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall, "loss": loss}
            ),
            flush=True,
        )


def windows(shape: dict, folder: Path) -> torch.Tensor:
    """Return the shard's windows, [windows, S + 1]."""
    tokens = np.fromfile(folder / "tokens" / "0.ds", dtype="<u2").astype(np.int64)
    return torch.from_numpy(tokens).view(-1, shape["sequence"] + 1)


def transformers_model(shape: dict, folder: Path) -> torch.nn.Module:
    """Return transformers' Llama with the first weights of ours."""
    from safetensors.torch import load_file
    from transformers import LlamaConfig, LlamaForCausalLM

    model = LlamaForCausalLM(
        LlamaConfig(
            hidden_size=shape["hidden"],
            intermediate_size=shape["inner"],
            num_hidden_layers=shape["layers"],
            num_attention_heads=shape["heads"],
            num_key_value_heads=shape["pairs"],
            vocab_size=shape["vocabulary"],
            max_position_embeddings=shape["sequence"],
            tie_word_embeddings=shape["tied"],
            rms_norm_eps=1e-5,
            use_cache=False,
        )
    )
    model.load_state_dict(load_file(folder / "first.safetensors"), strict=False)
    return model


def plain(shape: dict, folder: Path, dtype: str, compiled: bool) -> None:
    """The loop that everybody writes: transformers' model and loss, torch.optim.AdamW."""
    model = transformers_model(shape, folder)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    forward, data, batch = (
        torch.compile(model) if compiled else model,
        windows(shape, folder),
        shape["batch"],
    )
    start = 0

    def steps(count: int) -> float:
        nonlocal start
        for _ in range(count):
            inputs = data[start : start + batch]
            start = (start + batch) % (len(data) - batch)
            with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"):
                # The label of a position is the next token; transformers shifts them itself, and
                # leaves the last position out.
                loss = forward(input_ids=inputs[:, :-1], labels=inputs[:, :-1]).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
        return loss.item()

    answer(steps)


def hf_trainer(shape: dict, folder: Path, dtype: str) -> None:
    """transformers' Trainer in its own loop; a callback waits for the command before a step."""
    from transformers import Trainer, TrainerCallback, TrainingArguments

    class Wait(TrainerCallback):
        left, loss = 0, float("nan")

        def on_step_begin(self, args, state, control, **others) -> None:  # type: ignore[no-untyped-def]
            if not self.left:
                line = sys.stdin.readline()
                if not line:
                    os._exit(0)
                self.left, self.cpu, self.wall = int(line), time.process_time(), time.perf_counter()

        def on_step_end(self, args, state, control, **others) -> None:  # type: ignore[no-untyped-def]
            self.left -= 1
            if not self.left:
                record = {
                    "cpu": time.process_time() - self.cpu,
                    "wall": time.perf_counter() - self.wall,
                    "loss": None,
                }
                print(json.dumps(record), flush=True)

    data = windows(shape, folder)
    arguments = TrainingArguments(
        output_dir=str(folder / "hf_trainer"),
        per_device_train_batch_size=shape["batch"],
        max_steps=10**6,
        learning_rate=1e-4,
        lr_scheduler_type="constant",
        max_grad_norm=1.0,
        use_cpu=True,
        bf16=dtype == "bfloat16",
        save_strategy="no",
        report_to=[],
        logging_steps=10**6,
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    rows = [{"input_ids": row[:-1], "labels": row[:-1]} for row in data]
    Trainer(
        model=transformers_model(shape, folder),
        args=arguments,
        train_dataset=rows,
        callbacks=[Wait()],
    ).train()


def litgpt(shape: dict, folder: Path, dtype: str) -> None:
    """litgpt's model, compiled as its pre-training does it, its loss and its step
    (litgpt/pretrain.py::fit).
    """
    import lightning
    from litgpt import GPT, Config
    from litgpt.utils import chunked_cross_entropy

    fabric = lightning.Fabric(
        accelerator="cpu", devices=1, precision="bf16-mixed" if dtype == "bfloat16" else "32-true"
    )
    config = Config(
        n_embd=shape["hidden"],
        n_layer=shape["layers"],
        n_head=shape["heads"],
        n_query_groups=shape["pairs"],
        intermediate_size=shape["inner"],
        block_size=shape["sequence"],
        padded_vocab_size=shape["vocabulary"],
        vocab_size=shape["vocabulary"],
        rotary_percentage=1.0,
        parallel_residual=False,
        bias=False,
        norm_class_name="RMSNorm",
        mlp_class_name="LLaMAMLP",
        norm_eps=1e-5,
    )
    with fabric.init_module(empty_init=False):
        model = GPT(config)
    if shape["tied"]:
        model.lm_head.weight = model.transformer.wte.weight
    model = fabric.setup(torch.compile(model))
    optimizer = fabric.setup_optimizers(torch.optim.AdamW(model.parameters(), lr=1e-4))
    data, batch, start = windows(shape, folder), shape["batch"], 0

    def steps(count: int) -> float:
        nonlocal start
        for _ in range(count):
            inputs = data[start : start + batch]
            start = (start + batch) % (len(data) - batch)
            loss = chunked_cross_entropy(
                model(inputs[:, :-1].contiguous()), inputs[:, 1:].contiguous()
            )
            fabric.backward(loss)
            fabric.clip_gradients(model, optimizer, max_norm=1.0)
            optimizer.step()
            optimizer.zero_grad()
        return loss.item()

    answer(steps)


def ours(folder: Path, recipe: str, ranks: int) -> None:
    """The trainer itself: batches from the shard, log, all of it but the checkpoints."""
    import torch.distributed as dist

    from zagreus.recipe.read import read_recipe
    from zagreus.training.loop import _Trainer, join_ranks
    from zagreus.training.segment import plan_segment

    os.environ.setdefault("RANK", "0")
    if ranks > 1 and os.environ["RANK"] == "0":
        with socket.create_server(
            ("127.0.0.1", 0)
        ) as free:  # a port of its own: ours and ours, compiled, run at the same time
            port = free.getsockname()[1]
        os.environ |= {
            "WORLD_SIZE": str(ranks),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "GLOO_SOCKET_IFNAME": "lo",
        }
        others = [
            subprocess.Popen([sys.executable, *sys.argv], env={**os.environ, "RANK": str(rank)})
            for rank in range(1, ranks)
        ]
    process = join_ranks("cpu")
    segment = plan_segment(read_recipe(folder / recipe), 10**6, None, [], ranks)
    trainer = _Trainer(segment, process)
    trainer.resume()

    def steps(count: int) -> float:
        for _ in range(count):
            record, _ = trainer.train_step(False)
        return float(record["loss"])

    if ranks == 1:
        answer(steps)
        return
    while True:  # as `answer`, with the ranks' CPU time added up
        told = [sys.stdin.readline() if process.rank == 0 else ""]
        dist.broadcast_object_list(told)
        if not told[0]:
            break
        cpu, wall = time.process_time(), time.perf_counter()
        loss = steps(int(told[0]))
        spent = torch.tensor(time.process_time() - cpu)
        dist.all_reduce(spent)
        if process.rank == 0:
            print(
                json.dumps({"cpu": float(spent), "wall": time.perf_counter() - wall, "loss": loss}),
                flush=True,
            )
    if process.rank == 0:
        for other in others:
            other.wait()


def main() -> None:
    """Become one engine."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--dtype", required=True)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    shape = json.loads((arguments.folder / "shape.json").read_text())
    torch.set_num_threads(arguments.threads)
    if arguments.engine in ("plain", "compiled"):
        plain(shape, arguments.folder, arguments.dtype, arguments.engine == "compiled")
    elif arguments.engine == "hf_trainer":
        hf_trainer(shape, arguments.folder, arguments.dtype)
    elif arguments.engine == "litgpt":
        litgpt(shape, arguments.folder, arguments.dtype)
    else:
        ours(arguments.folder, f"{arguments.engine}.yaml", arguments.threads)


if __name__ == "__main__":
    main()
