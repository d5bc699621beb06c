"""Score one checkpoint on one suite with lm-eval: the scores (SUITE.json, a manifest) and every item (SUITE.items.parquet)."""

from __future__ import annotations

import argparse
import json
import logging
import os
import tempfile
import time
from pathlib import Path

# Before anything of Hugging Face is imported: no network, and no cache that outlives the job.
SCRATCH = tempfile.TemporaryDirectory()
os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_DATASETS_CACHE": SCRATCH.name, "TOKENIZERS_PARALLELISM": "false"}
os.environ.setdefault("TQDM_MININTERVAL", "5")  # progress goes into a log file

import pyarrow
import pyarrow.parquet
import torch
import transformers

from zagreus.atomic import atomic_file
from zagreus.errors import run
from zagreus.evaluation.folder import check_folder
from zagreus.evaluation.harness import load, read_suite, score, task_hash
from zagreus.evaluation.scores import ITEMS, item_rows, task_scores
from zagreus.manifest import read_manifest, write_manifest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, type=Path, help="manifest of the model folder")
    parser.add_argument("--suite", required=True, help="name of the suite")
    parser.add_argument("--tasks", required=True, type=json.loads, help="its tasks, JSON: [{name, language, recipe, data, shots}]")
    parser.add_argument("--data", required=True, type=Path, help="folder of the evaluation data")
    parser.add_argument("--batch-size", type=int, default=8, help="items that go through the model together")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--items", required=True, type=Path, help="the items' parquet file")
    parser.add_argument("--output", required=True, type=Path, help="the scores")
    given = parser.parse_args()

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    torch.set_num_threads(given.threads)
    manifest, folder = read_manifest(given.model, "model"), given.model.parent
    check_folder(folder)
    suite = read_suite(given.tasks, given.data)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = load(folder, tokenizer, given.batch_size)
    scores, rows, seconds = [], [], {}
    started = time.monotonic()
    for task, results in score(model, suite, folder):
        output_type, samples = task.recipe["output_type"], results["samples"][task.name]
        about = {"shots": task.shots, "task_version": results["versions"].get(task.name), "task_hash": task_hash(samples)}
        for entry in task_scores(results, task.name, output_type, task.metadata.get("constant", {})):
            scores.append({"task": task.name, "language": task.language, **entry, **about})
        rows += item_rows(samples, task.name, output_type)
        seconds[task.name] = round(time.monotonic() - started, 2)
        started = time.monotonic()
    with atomic_file(given.items) as partial:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows, schema=ITEMS), partial, compression="zstd")
    write_manifest(
        given.output,
        kind="scores",
        name=f"{manifest['name']}/{given.suite}",
        inputs=[
            given.model,
            *sorted({given.data / f"{task['data']}.json" for task in given.tasks}),
            *sorted({Path(task["recipe"]) for task in given.tasks}),
        ],
        outputs=[given.items],
        packages=["lm_eval", "torch", "transformers", "datasets"],
        circumstances={"seconds_per_task": seconds, "device": str(model.device), "threads": given.threads},
        model=manifest["model"],
        checkpoint=manifest["checkpoint"],
        suite=given.suite,
        dtype="float32",
        batch_size=given.batch_size,
        max_length=model.max_length,
        scores=scores,
    )


if __name__ == "__main__":
    run(main)
