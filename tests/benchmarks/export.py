"""Size, load time, memory and speed of the exports (`make bench BENCH=bench_export`).

Two models: random weights of a published shape (a recipe of recipes/pretrain), and SmolLM2-135M
with its weights. The method is `zagreus.export.measure`'s: a prompt of 512 tokens, 128 new tokens,
one thread and two. The formats take turns, each run in a process of its own; the medians count.
Where others compute on the machine, `--cpu-seconds` gives tokens a CPU second with one thread.

With `--llama-bench PROGRAM`, llama.cpp's own benchmark computes the same. What counts is CPU
seconds with one thread: of two rounds less those of one round, so that start and load drop out.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

# Threads that wait give their core away: llama.cpp's library reads this as it is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy
import safetensors.numpy
import yaml
from interleave import run_once

from zagreus.errors import InputError
from zagreus.export.formats import FORMATS, Format
from zagreus.export.gguf_file import write_gguf
from zagreus.export.job import write_onnx_form
from zagreus.export.measure import NEW, PROMPT
from zagreus.export.model_folder import ModelFolder

MODEL = Path("results/unit/models/smollm2-135m-instruct/release")
RECIPE = Path("recipes/pretrain/zagreus.yaml")


def random_model(recipe: Path, tokenizer: Path, folder: Path) -> Path:
    """Write random weights of a recipe's shape beside another model's tokenizer.

    The tokenizer has fewer entries than the embedding has rows: the others are tokens that no text
    gives.
    """
    shape = yaml.safe_load(recipe.read_text())["model"]["model_config"]
    width, inner = shape["hidden_size"], shape["intermediate_size"]
    heads, kv_heads = shape["num_attention_heads"], shape["num_key_value_heads"]
    kv_width = width // heads * kv_heads
    random = numpy.random.default_rng(0)

    def draw(*size: int) -> numpy.ndarray:
        return random.standard_normal(size, dtype=numpy.float32) * numpy.float32(0.02)

    ones = numpy.ones(width, dtype=numpy.float32)
    weights = {
        "model.embed_tokens.weight": draw(shape["vocab_size"], width),
        "model.norm.weight": ones,
    }
    for index in range(shape["num_hidden_layers"]):
        layer = f"model.layers.{index}"
        weights |= {
            f"{layer}.input_layernorm.weight": ones,
            f"{layer}.post_attention_layernorm.weight": ones,
            f"{layer}.self_attn.q_proj.weight": draw(width, width),
            f"{layer}.self_attn.k_proj.weight": draw(kv_width, width),
            f"{layer}.self_attn.v_proj.weight": draw(kv_width, width),
            f"{layer}.self_attn.o_proj.weight": draw(width, width),
            f"{layer}.mlp.gate_proj.weight": draw(inner, width),
            f"{layer}.mlp.up_proj.weight": draw(inner, width),
            f"{layer}.mlp.down_proj.weight": draw(width, inner),
        }
    folder.mkdir(parents=True)
    safetensors.numpy.save_file(weights, folder / "model.safetensors")
    names = ("hidden_size", "intermediate_size", "max_position_embeddings", "num_attention_heads")
    names += ("num_hidden_layers", "num_key_value_heads", "vocab_size", "rope_theta")
    config = {name: shape[name] for name in names} | {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "rms_norm_eps": shape["rms_norm_eps"],
        "tie_word_embeddings": shape["tie_word_embeddings"],
    }
    (folder / "config.json").write_text(json.dumps(config))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tokenizer / name, folder / name)
    return folder


def write_export(model: ModelFolder, form: Format, path: Path) -> None:
    """Write a model in a format, without the gate."""
    if form.runtime == "llama.cpp":
        write_gguf(model, form.name, "model", ["en"], False, path)
    else:
        write_onnx_form(model, form, path)


def own(file: Path, threads: int, rounds: int, cpu_seconds: bool = False) -> list[str]:
    """Return the command of the project's own measurement."""
    command = [sys.executable, "-P", "-m", "zagreus.export.measure", str(file)]
    command += ["--threads", str(threads), "--rounds", str(rounds)]
    return [*command, "--cpu-seconds"] if cpu_seconds else command


def speeds(files: dict[str, Path], rounds: int, cpu_seconds: bool) -> None:
    """Print a row for each file: medians of rounds in which the files take turns."""
    threads = (1,) if cpu_seconds else (1, 2)
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in files}
    for number in range(rounds):
        for name in list(files) if number % 2 == 0 else reversed(list(files)):
            command = own(files[name], threads[-1], 1, cpu_seconds)
            results[name].append(json.loads(run_once(command).output))
    kinds = [f"{kind}, {count}" for kind in ("prompt", "new") for count in threads]
    print(f"\n| format | MB | load, s | memory, MB | {' | '.join(kinds)} |")
    print("|---" * (4 + len(kinds)) + "|")
    for name, runs in results.items():
        values = [
            median(run["speeds"][index][kind] for run in runs)
            for kind in ("prefill", "decode")
            for index in range(len(threads))
        ]
        load = median(run["load_seconds"] for run in runs)
        memory = median(run["memory_bytes"] for run in runs)
        print(
            f"| {name} | {files[name].stat().st_size / 1e6:.0f} | {load:.2f} | {memory / 1e6:.0f}"
            f" | {' | '.join(f'{value:.1f}' for value in values)} |",
            flush=True,
        )


def against_llama_bench(program: Path, files: dict[str, Path], rounds: int) -> None:
    """Print CPU seconds of a prompt and new tokens, here and in llama-bench."""
    print("\n| format | CPU s, llama-bench | here | here / llama-bench |")
    print("|---|---|---|---|")
    for name, file in files.items():
        if file.suffix != ".gguf":
            continue
        bench = [str(program), "-m", str(file), "-p", str(PROMPT), "-n", str(NEW), "-t", "1"]
        taken: dict[str, list[float]] = {"llama-bench": [], "here": []}
        for _ in range(rounds):
            for side in taken:
                once, twice = (
                    run_once(
                        own(file, 1, count) if side == "here" else [*bench, "-r", str(count)]
                    ).cpu
                    for count in (1, 2)
                )
                taken[side].append(twice - once)
        ratios = [
            one / other for one, other in zip(taken["here"], taken["llama-bench"], strict=True)
        ]
        print(
            f"| {name} | {median(taken['llama-bench']):.2f} | {median(taken['here']):.2f} | "
            f"{median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f}) |",
            flush=True,
        )


def main() -> None:
    """Write the models and their exports, measure, print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=MODEL, help="the model with real weights")
    parser.add_argument("--recipe", type=Path, default=RECIPE, help="the shape of random weights")
    parser.add_argument("--formats", nargs="*", choices=list(FORMATS), default=list(FORMATS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cpu-seconds", action="store_true", help="speeds by CPU seconds")
    parser.add_argument("--llama-bench", type=Path, help="llama.cpp's own benchmark")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        models = {arguments.model.parent.name: arguments.model}
        models[arguments.recipe.stem] = random_model(
            arguments.recipe, arguments.model, Path(scratch) / "random"
        )
        for name, folder in models.items():
            print(f"\n{name}", flush=True)
            model, files = ModelFolder(folder), {}
            for form in arguments.formats:
                path = Path(scratch) / f"{name}-{form}.{FORMATS[form].suffix}"
                try:
                    write_export(model, FORMATS[form], path)
                except InputError as error:
                    print(f"{form}: {error}", flush=True)
                    continue
                files[form] = path
            speeds(files, arguments.rounds, arguments.cpu_seconds)
            if arguments.llama_bench:
                against_llama_bench(arguments.llama_bench, files, arguments.rounds)
            for path in files.values():
                path.unlink()


if __name__ == "__main__":
    main()
