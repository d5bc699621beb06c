"""Make the chat rows of one data set: JSON lines for training, JSON lines held apart, and the manifest.

python scripts/fetch_chat.py --name agentic --entry '{"kind": "package", "reader": "intents", "options": {"languages": ["it", "en"]},
    "heldout": 0.05, "limit": 400}' --wheel home_assistant_intents.whl --heldout agentic.heldout.jsonl --manifest agentic.json agentic.jsonl
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

from tqdm import tqdm

from zagreus.data.chat.datasets import chat_rows
from zagreus.data.chat.rows import check_row, divide, write_rows
from zagreus.errors import InputError, run
from zagreus.manifest import sha256_file, write_manifest


def main() -> None:
    """Parse the arguments, read, divide and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", required=True, help="name of the data set in the config")
    parser.add_argument("--entry", required=True, type=json.loads, help="its entry in the config, as JSON")
    parser.add_argument("--wheel", type=Path, help="the package's wheel, for kind 'package'")
    parser.add_argument("--heldout", required=True, type=Path, help="where the rows held apart go")
    parser.add_argument("--manifest", required=True, type=Path, help="where the manifest goes")
    parser.add_argument("output", type=Path, help="where the rows for training go")
    arguments = parser.parse_args()
    entry = arguments.entry

    cache = arguments.output.with_name(f".{arguments.name}.download")
    files, read = chat_rows(entry, arguments.wheel, cache)
    rows = list(tqdm(read, desc=f"rows of {arguments.name}", unit=" rows", mininterval=5))
    for row in rows:
        check_row(row, arguments.name)
    training, apart = divide(rows, entry.get("heldout", 0), entry.get("limit"))
    if not training:
        raise InputError(f"{arguments.name}: no rows for training in {', '.join(map(str, files))}")
    write_rows(arguments.output, training)
    write_rows(arguments.heldout, apart)
    origins = [{"file": file.name, "bytes": file.stat().st_size, "sha256": sha256_file(file)} for file in files]
    write_manifest(
        arguments.manifest,
        kind="chat",
        name=arguments.name,
        inputs=[arguments.wheel] if arguments.wheel else [],
        outputs=[arguments.output, arguments.heldout],
        packages=["hassil"] if entry.get("reader") == "intents" else [],
        entry=entry,
        origins=origins,
        form="dpo" if "chosen" in training[0] else "sft",
        rows=len(training),
        rows_heldout=len(apart),
    )
    shutil.rmtree(cache, ignore_errors=True)


if __name__ == "__main__":
    run(main)
