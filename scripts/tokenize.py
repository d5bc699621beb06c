"""Tokenize one task of a source to a shard in datatrove's format.

python -P scripts/tokenize.py --source results/sources/S/00000.json --tokenizer results/tokenizer/manifest.json results/tokens/S/00000.json

-P keeps this file from standing for the standard library's module of the same name.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from zagreus.data.packages import check_space
from zagreus.data.shards import write_shard
from zagreus.errors import run
from zagreus.manifest import read_manifest, write_manifest


def main() -> None:
    """Parse the arguments and tokenize."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", required=True, type=Path, help="the manifest of the text, TASK.json; TASK.parquet lies beside it")
    parser.add_argument("--tokenizer", required=True, type=Path, help="the manifest of the tokenizer; tokenizer.json lies beside it")
    parser.add_argument("output", type=Path, help="the shard's manifest, TASK.json; TASK_unshuffled.ds lies beside it")
    arguments = parser.parse_args()
    source = read_manifest(arguments.source, kind="source")
    tokenizer = read_manifest(arguments.tokenizer, kind="tokenizer")
    # A token stands for more than two bytes of text in any vocabulary that is of use.
    check_space(arguments.output.parent, source["text_bytes"] * 2)
    shard = write_shard(
        arguments.source.with_suffix(".parquet"),
        arguments.tokenizer.parent / "tokenizer.json",
        arguments.output.parent,
        source["documents"],
    )
    write_manifest(
        arguments.output,
        kind="tokens",
        name=source["name"],
        inputs=[arguments.source, arguments.tokenizer],
        outputs=shard.files,
        packages=["datatrove", "tokenizers"],
        language=source["language"],
        documents=shard.documents,
        tokens=shard.tokens,
        text_bytes=source["text_bytes"],
        token_bytes=shard.token_bytes,
        vocab_size=tokenizer["vocab_size"],
    )


if __name__ == "__main__":
    run(main)
