"""Make the items of one evaluation data set.

The outputs are a parquet file with a column `split`, and its manifest.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from zagreus.errors import InputError, run
from zagreus.evaluation.agentic import agentic_items
from zagreus.evaluation.benchmarks import read_benchmark
from zagreus.evaluation.choice import next_items, translation_items
from zagreus.evaluation.examples import set_apart
from zagreus.evaluation.files import MAX_LOST_ROWS
from zagreus.evaluation.heldout import heldout_documents, heldout_items
from zagreus.evaluation.hub import read_hub
from zagreus.evaluation.instructions import instruction_items
from zagreus.evaluation.items import Item, take, write_items
from zagreus.evaluation.needle import needle_items
from zagreus.languages import CODE, find_language
from zagreus.manifest import write_manifest

# Splits that give examples for few-shot prompts: they keep their order and are never cut.
EXAMPLES = ("train", "dev")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", required=True, help="name of the data set")
    parser.add_argument(
        "--entry", required=True, type=json.loads, help="its entry in the configuration, as JSON"
    )
    parser.add_argument(
        "--inputs",
        nargs="*",
        type=Path,
        default=[],
        help="the wheel, the file of cases, or manifests of sources (kind needle: the tokenizer "
        "last) or chat data",
    )
    parser.add_argument(
        "--output", required=True, type=Path, help="the parquet file; the manifest goes beside it"
    )
    arguments = parser.parse_args()
    if arguments.entry["language"] != CODE:
        find_language(arguments.entry["language"])
    with tempfile.TemporaryDirectory() as folder:
        splits, facts = _splits(arguments.name, arguments.entry, arguments.inputs, Path(folder))
    write_items(arguments.output, splits)
    write_manifest(
        arguments.output.with_suffix(".json"),
        kind="evaluation_data",
        name=arguments.name,
        inputs=arguments.inputs,
        outputs=[arguments.output],
        packages=["pyarrow"],
        entry=arguments.entry,
        language=arguments.entry["language"],
        items={split: len(items) for split, items in splits.items()},
        **facts,
    )


def _splits(
    name: str, entry: Mapping[str, Any], inputs: Sequence[Path], folder: Path
) -> tuple[Mapping[str, Sequence[Item]], Mapping[str, Any]]:
    """Return the items by split, and facts for the manifest."""
    limit = entry.get("limit")
    match entry["kind"]:
        case "package":
            return _cut(read_benchmark(inputs[0], entry["reader"]), limit, name), {}
        case "huggingface":
            limit_lost = entry.get("max_lost_rows", MAX_LOST_ROWS)
            read, origin = read_hub(
                entry["repo"],
                entry["revision"],
                entry["files"],
                entry.get("sha256", {}),
                folder,
                limit_lost,
            )
            splits = set_apart(read, entry["examples"], name) if "examples" in entry else read
            return _cut(splits, limit, name), origin
        case "agentic":
            items = take(agentic_items(inputs[0], entry["language"]), limit, name)
        case "heldout":
            documents = heldout_items(inputs, entry.get("max_bytes"), entry.get("min_bytes", 0))
            items = take(documents, limit, name)
        case "choice" if entry["form"] == "next":
            items = next_items(heldout_documents(inputs), limit, name)
        case "choice":
            items = translation_items(
                [heldout_documents(part) for part in _parts(entry["sources"], inputs)], limit, name
            )
        case "needle":
            *manifests, tokenizer = inputs
            items = needle_items(heldout_documents(manifests), tokenizer, entry, name)
        case "instructions":
            left_out: Counter[str] = Counter()
            items = take(
                instruction_items(inputs, entry["form"], entry["language"], left_out), limit, name
            )
            return {"test": items}, {"rows_left_out": dict(sorted((+left_out).items()))}
        case kind:
            raise InputError(f"{name}: unknown kind of evaluation data '{kind}'")
    return {"test": items}, {}


def _cut(
    splits: Mapping[str, Sequence[Item]], limit: int | None, name: str
) -> Mapping[str, Sequence[Item]]:
    return {
        split: items if split in EXAMPLES else take(items, limit, name)
        for split, items in splits.items()
    }


def _parts(sources: Sequence[str], manifests: Sequence[Path]) -> list[list[Path]]:
    """Return the manifests (`sources/SOURCE/TASK.json`) of each source, in the order of the
    sources.
    """
    return [
        [manifest for manifest in manifests if manifest.parent.name == source] for source in sources
    ]


if __name__ == "__main__":
    run(main)
