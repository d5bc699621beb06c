r"""Find the documents of a source that repeat another of its documents, over all its tasks.

python -P scripts/deduplicate.py --name eng_web --method minhash \
    --language eng results/clean/eng_web.json --sources results/sources/eng_web/*.json
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from zagreus.atomic import atomic_file
from zagreus.data.clean import word_language
from zagreus.data.duplicates import find_duplicates
from zagreus.errors import run
from zagreus.manifest import read_manifest, write_manifest


def main() -> None:
    """Parse the arguments, find the documents, write their numbers."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--name", required=True, help="the source's name")
    parser.add_argument(
        "--method",
        required=True,
        choices=["minhash", "exact", "url"],
        help="what a repetition is: a like text, the same, the same id",
    )
    parser.add_argument(
        "--language", required=True, help="the source's language, three letters, or code"
    )
    parser.add_argument(
        "--sources",
        nargs="+",
        required=True,
        type=Path,
        help="the manifests of the source's text, in order of the tasks",
    )
    parser.add_argument("--threads", type=int, default=1, help="processes (%(default)s)")
    parser.add_argument(
        "output",
        type=Path,
        help="the manifest, SOURCE.json; SOURCE.parquet (task, row) lies beside it",
    )
    arguments = parser.parse_args()
    documents = [read_manifest(source, kind="source")["documents"] for source in arguments.sources]
    # Signatures of a large source take hours. A job that was ended goes on, unless the text or the
    # method is another one by now.
    content = (
        b"".join(source.read_bytes() for source in arguments.sources) + arguments.method.encode()
    )
    folder = arguments.output.with_name(
        f".{arguments.name}.{hashlib.sha256(content).hexdigest()[:16]}"
    )
    for other in arguments.output.parent.glob(f".{arguments.name}.*"):
        if other != folder and other.is_dir():
            shutil.rmtree(other)
    texts = [source.with_suffix(".parquet") for source in arguments.sources]
    duplicates = find_duplicates(
        texts, arguments.method, word_language(arguments.language), folder, arguments.threads
    )
    table = pa.table(
        {
            "task": pa.array(
                [task for task, rows in enumerate(duplicates) for _ in rows], pa.int32()
            ),
            "row": pa.array([row for rows in duplicates for row in rows], pa.int64()),
        }
    )
    numbers = arguments.output.with_suffix(".parquet")
    with atomic_file(numbers) as partial:
        pq.write_table(table, partial)
    write_manifest(
        arguments.output,
        kind="duplicates",
        name=arguments.name,
        inputs=arguments.sources,
        outputs=[numbers],
        packages=["datatrove"],
        method=arguments.method,
        documents=sum(documents),
        repeated=table.num_rows,
    )
    shutil.rmtree(folder)


if __name__ == "__main__":
    run(main)
