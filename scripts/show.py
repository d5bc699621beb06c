"""Print the first rows of a parquet file, or the first documents of a token shard.

    bin/zagreus show results/test/sources/ita_bible/00000.parquet
    bin/zagreus show results/test/evaluation_data/heldout_ita.parquet --where id=ita_bible:19/123
    bin/zagreus show results/test/tokens/ita_bible/00000_unshuffled.ds

A shard is printed as token ids and as text. The shard's manifest names the tokenizer.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from tokenizers import Tokenizer

from zagreus.errors import InputError, run
from zagreus.manifest import read_manifest

WIDTH = 100


def main() -> None:
    """Parse the arguments and print the rows or documents."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path, help="a .parquet file or a .ds file of a run")
    parser.add_argument(
        "--rows", type=int, default=3, help="number of rows or documents (default 3)"
    )
    parser.add_argument(
        "--where",
        action="append",
        default=[],
        metavar="COLUMN=VALUE",
        help="parquet: only rows that have this value in this column; may be repeated",
    )
    arguments = parser.parse_args()
    if not arguments.file.is_file():
        raise InputError(f"{arguments.file}: no such file")
    if arguments.file.suffix == ".parquet":
        show_rows(arguments.file, arguments.rows, arguments.where)
    elif arguments.file.suffix == ".ds":
        show_documents(arguments.file, arguments.rows)
    else:
        raise InputError(f"{arguments.file}: expected a file whose name ends in .parquet or .ds")


def show_rows(file: Path, rows: int, where: list[str]) -> None:
    """Print rows of a parquet file, a column a line.

    Args:
        file: the parquet file.
        rows: number of rows to print at most.
        where: conditions `COLUMN=VALUE`, of which a row must meet all.

    Raises:
        InputError: a condition names no column, or no row meets all conditions.
    """
    table = pq.ParquetFile(file)
    conditions = dict(condition.partition("=")[::2] for condition in where)
    for column in conditions:
        if column not in table.schema_arrow.names:
            names = ", ".join(table.schema_arrow.names)
            raise InputError(f"{file}: no column '{column}', expected one of {names}")
    print(f"{file}: {table.metadata.num_rows:,} rows")
    printed = 0
    for batch in table.iter_batches(batch_size=256):
        for row in batch.to_pylist():
            if printed == rows:
                return
            if all(str(row[column]) == value for column, value in conditions.items()):
                _print_row(row)
                printed += 1
    if conditions and not printed:
        raise InputError(f"{file}: no row with {' and '.join(where)}")


def show_documents(file: Path, documents: int) -> None:
    """Print documents of a token shard: number of tokens, first token ids, text.

    Args:
        file: the shard, in datatrove's format; its index and its manifest lie beside it.
        documents: number of documents to print at most.

    Raises:
        InputError: the manifest is missing, or names no tokenizer.
    """
    manifest = read_manifest(file.with_name(file.name.split("_")[0].split(".")[0] + ".json"))
    inputs = [Path(entry["path"]) for entry in manifest["inputs"]]
    folders = [path.parent for path in inputs if path.name == "manifest.json"]
    if not folders:
        raise InputError(f"{file}: its manifest names no tokenizer")
    tokenizer = Tokenizer.from_file(str(folders[0] / "tokenizer.json"))
    ends = np.fromfile(f"{file}.index", dtype="<u8")
    tokens = np.memmap(file, dtype=f"<u{manifest['token_bytes']}", mode="r")
    print(f"{file}: {len(ends):,} documents, {len(tokens):,} tokens")
    start = 0
    for end in ends[:documents]:
        ids = tokens[start:end].tolist()
        text = tokenizer.decode(ids, skip_special_tokens=False)
        _print_row({"tokens": len(ids), "ids": ids[:12], "text": text})
        start = int(end)


def _print_row(row: dict[str, Any]) -> None:
    print()
    for name, value in row.items():
        text = json.dumps(value, ensure_ascii=False, default=str)
        print(f"  {name}: {text if len(text) <= WIDTH else text[: WIDTH - 4] + ' ...'}")


if __name__ == "__main__":
    run(main)
