"""Compute what the exports of a checkpoint are compared with: the transformers model in fp32.

python scripts/export_reference.py --model results/demo/models/nesso-instruct/dpo/manifest.json \
    --texts '{"eng": "results/demo/evaluation_data/heldout_eng.json"}' \
    --output results/demo/exports/nesso-instruct/dpo/reference/manifest.json
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}

from zagreus.atomic import atomic_folder
from zagreus.errors import InputError, run
from zagreus.evaluation.folder import check_folder
from zagreus.evaluation.items import read_table
from zagreus.manifest import read_manifest, write_manifest


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True, type=Path, help="manifest of the model folder")
    parser.add_argument(
        "--texts", required=True, type=json.loads, help="JSON: {language: evaluation data manifest}"
    )
    parser.add_argument(
        "--requests",
        nargs="*",
        default=[],
        type=Path,
        help="manifests of evaluation data: requests that call for a tool, which the model answers",
    )
    parser.add_argument(
        "--request-limit", type=int, help="the most requests of a data set; default: all"
    )
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--output", required=True, type=Path, help="the reference, a manifest")
    arguments = parser.parse_args()

    manifest, folder = read_manifest(arguments.model, "model"), arguments.model.parent
    check_folder(folder)
    texts = {}
    for language, name in arguments.texts.items():
        read_manifest(name, "evaluation_data")
        table = read_table(Path(name).with_suffix(".parquet"), ("id", "text"))
        texts[language] = table.column("text").to_pylist()
    if not texts:
        raise InputError("--texts: no language, expected at least one")

    import torch

    from zagreus.export.transformers_model import reference_of

    torch.set_num_threads(arguments.threads)
    reference = reference_of(folder, texts)
    requests = None
    if arguments.requests:
        from zagreus.export.transformers_requests import requests_of

        items = {path.stem: read_requests(path) for path in arguments.requests}
        requests = requests_of(folder, items, arguments.request_limit)
    target = arguments.output.parent
    with atomic_folder(target) as partial:
        reference.save(partial)
        if requests is not None:
            requests.save(partial)
        names = sorted(item.name for item in partial.iterdir())
    write_manifest(
        arguments.output,
        kind="export_reference",
        name=manifest["name"],
        inputs=[arguments.model, *map(Path, arguments.texts.values()), *arguments.requests],
        outputs=[target / name for name in names],
        packages=["torch", "transformers"],
        model=manifest["model"],
        checkpoint=manifest["checkpoint"],
        languages=list(texts),
        chat=bool(reference.chats),
        documents=len(reference.documents),
        positions=len(reference.greedy),
        texts=len(reference.texts),
    )


def read_requests(manifest: Path) -> list[dict[str, Any]]:
    """Return the items of evaluation data in which a tool is called."""
    read_manifest(manifest, "evaluation_data")
    columns = ("id", "language", "messages", "reference", "tool")
    items: list[dict[str, Any]] = read_table(manifest.with_suffix(".parquet"), columns).to_pylist()
    return items


if __name__ == "__main__":
    run(main)
