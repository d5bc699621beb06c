"""Score one checkpoint on one suite with lm-eval.

The outputs are the scores (SUITE.json, a manifest) and every item (SUITE.items.parquet).
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import tempfile
import time
from pathlib import Path
from typing import Any

# Before anything of Hugging Face is imported: no network, and no cache that outlives the job.
SCRATCH = tempfile.TemporaryDirectory()
os.environ |= {
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_DATASETS_CACHE": SCRATCH.name,
    "TOKENIZERS_PARALLELISM": "false",
}
os.environ.setdefault("TQDM_MININTERVAL", "5")  # progress goes into a log file

import pyarrow
import pyarrow.parquet
import torch
import transformers

from zagreus.atomic import atomic_file
from zagreus.errors import run
from zagreus.evaluation.finished import Finished
from zagreus.evaluation.folder import check_folder
from zagreus.evaluation.harness import SuiteTask, check_model, load, read_suite, score, task_hash
from zagreus.evaluation.identity import (
    data_hashes,
    model_hashes,
    task_key,
    template_hash,
    weights_hash,
)
from zagreus.evaluation.punkt import write_punkt
from zagreus.evaluation.rows import ITEMS, item_rows
from zagreus.evaluation.scores import task_scores
from zagreus.evaluation.trivial import best_trivial
from zagreus.launch.gpus import claim_gpus
from zagreus.manifest import read_manifest, write_manifest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, type=Path, help="manifest of the model folder")
    parser.add_argument("--suite", required=True, help="name of the suite")
    parser.add_argument(
        "--tasks",
        required=True,
        type=json.loads,
        help="its tasks, JSON: [{name, language, recipe, data, num_fewshot}]",
    )
    parser.add_argument("--data", required=True, type=Path, help="folder of the evaluation data")
    parser.add_argument("--punkt", type=Path, help="wheel with NLTK's sentence model, for IFEval")
    parser.add_argument(
        "--batch-size", type=int, default=8, help="answers that are written together"
    )
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--items", required=True, type=Path, help="the items' parquet file")
    parser.add_argument("--output", required=True, type=Path, help="the scores")
    arguments = parser.parse_args()

    started = time.monotonic()
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    torch.set_num_threads(arguments.threads)
    if arguments.punkt:
        write_punkt(arguments.punkt, Path(SCRATCH.name) / "nltk")
        import nltk  # here: the import takes 2.8 s, and few suites need the library

        nltk.data.path.insert(0, f"{SCRATCH.name}/nltk")
    manifest, folder = read_manifest(arguments.model, "model"), arguments.model.parent
    configuration = check_folder(folder)
    hashes, data = (
        model_hashes(arguments.model),
        data_hashes([task["data"] for task in arguments.tasks], arguments.data),
    )
    suite = read_suite(arguments.tasks, arguments.data)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    check_model(suite, tokenizer, configuration, folder)

    finished = Finished(arguments.output.with_name(f".{arguments.suite}.finished"))
    keys = {task["name"]: task_key(task, data[task["data"]], hashes) for task in arguments.tasks}
    claim_gpus(1)
    model = load(folder, tokenizer, arguments.batch_size)
    print(f"ready to score after {time.monotonic() - started:.2f} s beyond imports", flush=True)
    started, tokens = time.monotonic(), 0
    for task, results in score(
        model, [task for task in suite if not finished.read(keys[task.name])]
    ):
        scored = _scored(task, results, data[task.where.stem])
        finished.write(
            keys[task.name],
            {
                **scored,
                "seconds": round(time.monotonic() - started, 2),
                "tokens": model.tokens - tokens,
            },
        )
        started, tokens = time.monotonic(), model.tokens
    task_results = {task.name: finished.read(keys[task.name]) or {} for task in suite}
    with atomic_file(arguments.items) as partial:
        rows = [
            {**row, "values": list(row["values"].items())}
            for result in task_results.values()
            for row in result["items"]
        ]
        pyarrow.parquet.write_table(
            pyarrow.Table.from_pylist(rows, schema=ITEMS), partial, compression="zstd"
        )
    write_manifest(
        arguments.output,
        kind="scores",
        name=f"{manifest['name']}/{arguments.suite}",
        inputs=[
            arguments.model,
            *sorted({arguments.data / f"{task['data']}.json" for task in arguments.tasks}),
            *sorted({Path(task["recipe"]) for task in arguments.tasks}),
        ],
        outputs=[arguments.items],
        packages=["lm_eval", "torch", "transformers", "datasets", "fastokens"],
        circumstances={
            "seconds_per_task": {name: result["seconds"] for name, result in task_results.items()},
            "tokens_per_task": {name: result["tokens"] for name, result in task_results.items()},
            "parameters": model.model.num_parameters(),
            "device": str(model.device),
            "threads": arguments.threads,
        },
        model=manifest["model"],
        checkpoint=manifest["checkpoint"],
        suite=arguments.suite,
        weights_sha256=weights_hash(hashes),
        data_sha256=data,
        dtype="float32",
        scorer=model.scorer,
        chat_template_sha256=template_hash(tokenizer),
        batch_size=arguments.batch_size,
        max_length=model.max_length,
        scores=[entry for result in task_results.values() for entry in result["scores"]],
    )
    finished.remove()


def _scored(task: SuiteTask, results: dict[str, Any], data: str) -> dict[str, Any]:
    """Return a task's scores and the rows of its items, as they are kept.

    `data` is the sha256 of the items' file.
    """
    samples = results["samples"][task.name]
    trivial = (
        best_trivial(task.built, task.metadata["trivial"])
        if task.built and "trivial" in task.metadata
        else None
    )
    about = {
        "num_fewshot": task.num_fewshot,
        "task_version": results["versions"].get(task.name),
        "task_hash": task_hash(samples),
    }
    about["data_sha256"] = data
    about["set_aside"] = dict(sorted(task.usable.set_aside.items()))
    for sample in samples:
        sample["doc_id"] = task.usable.places[sample["doc_id"]]  # the row of the data set's split
    return {
        "scores": [
            {"task": task.name, "language": task.language, **entry, **about}
            for entry in task_scores(results, task.name, task.recipe, trivial)
        ],
        "items": item_rows(samples, task.name, task.recipe["output_type"]),
    }


if __name__ == "__main__":
    run(main)
