r"""Make the chat rows of one data set.

The outputs are training rows and held-out rows, as JSON lines, and the manifest.

python scripts/fetch_chat.py --name agentic \
    --entry '{"kind": "package", "reader": "intents", "options": {"languages": ["it", "en"]},
    "heldout": 0.05, "limit": 400}' --wheel home_assistant_intents.whl \
        --heldout agentic.heldout.jsonl --manifest agentic.json agentic.jsonl
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

from tqdm import tqdm

from zagreus.data.chat.datasets import chat_rows
from zagreus.data.chat.form import form_of_row
from zagreus.data.chat.rows import Row, check_row, check_set, divide, key_of, write_rows
from zagreus.data.chat.rows import without_repetitions as distinct_rows
from zagreus.errors import InputError, run
from zagreus.losses import MAX_LOST_ROWS, Losses
from zagreus.manifest import sha256_file, write_manifest


def main() -> None:
    """Parse the arguments, read, divide and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--name", required=True, help="name of the data set in the config")
    parser.add_argument(
        "--entry", required=True, type=json.loads, help="its entry in the config, as JSON"
    )
    parser.add_argument("--wheel", type=Path, help="the package's wheel, for kind 'package'")
    parser.add_argument("--heldout", required=True, type=Path, help="where the held-out rows go")
    parser.add_argument("--manifest", required=True, type=Path, help="where the manifest goes")
    parser.add_argument("output", type=Path, help="where the rows for training go")
    arguments = parser.parse_args()
    entry = arguments.entry

    cache = arguments.output.with_name(f".{arguments.name}.download")
    losses = Losses()
    files, read = chat_rows(entry, arguments.wheel, cache, losses)
    rows = list(tqdm(read, desc=f"rows of {arguments.name}", unit=" rows", mininterval=5))
    training, apart, counts = select(arguments.name, entry, rows, losses, files)
    write_rows(arguments.output, training)
    write_rows(arguments.heldout, apart)
    origins = [
        {"file": file.name, "bytes": file.stat().st_size, "sha256": sha256_file(file)}
        for file in files
    ]
    write_manifest(
        arguments.manifest,
        kind="chat",
        name=arguments.name,
        inputs=[arguments.wheel] if arguments.wheel else [],
        outputs=[arguments.output, arguments.heldout],
        packages=["hassil"] if entry.get("reader") == "intents" else [],
        entry=entry,
        origins=origins,
        form=form_of_row(training[0]),
        rows=len(training),
        rows_heldout=len(apart),
        **counts,
    )
    shutil.rmtree(cache, ignore_errors=True)


def select(
    name: str,
    entry: dict[str, Any],
    rows: list[Row],
    losses: Losses,
    files: list[Path],
) -> tuple[list[Row], list[Row], dict[str, Any]]:
    """Return (rows for training, held-out rows, counts for the manifest); print what is left out.

    Raises:
        InputError: too many rows are lost, ids that are not unique, rows of two forms, or no row is
            left for training.
    """
    read = len(rows) + losses.total
    remedy = f"chat.{name}.max_lost_rows allows more"
    losses.check(name, read, entry.get("max_lost_rows", MAX_LOST_ROWS), remedy)
    for row in rows:
        check_row(row, name)
    check_set(rows, name)
    distinct = distinct_rows(rows)
    repeated, keys = len(rows) - len(distinct), len({key_of(row) for row in distinct})
    training, apart = divide(distinct, entry.get("heldout", 0), entry.get("limit"))
    counted = f"{read:,} rows read, {losses.total:,} lost, {repeated:,} repeated, {keys:,} keys"
    if losses.total:
        print(f"{name}: {losses.total:,} rows cannot be used: {losses}; the first: {losses.first}")
    if not training:
        held = f"{len(apart):,} held out, {counted}"
        raise InputError(f"{name}: no rows for training in {', '.join(map(str, files))} ({held})")
    print(f"{name}: {counted}; {len(training):,} for training, {len(apart):,} held out")
    counts = {"rows_read": read, "rows_lost": losses.by_reason(), "rows_repeated": repeated}
    return training, apart, counts


if __name__ == "__main__":
    run(main)
