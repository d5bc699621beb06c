r"""Tokenize one task of a source to a shard in datatrove's format.

python -P scripts/tokenize.py --source results/sources/S/00000.json \
    --tokenizer results/tokenizer/manifest.json results/tokens/S/00000.json

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
        "--tokenizer",
        required=True,
        type=Path,
        help="the manifest of the tokenizer; tokenizer.json lies beside it",
    )
    parser.add_argument(
        "--end-token",
        action="store_true",
        help="the end token after each document, in place of the begin token before it",
    )
    parser.add_argument(
        "--shuffle-seed", type=int, help="put the documents into another order, that of this seed"
    )
    parser.add_argument(
        "--heldout",
        action="store_true",
        help="the documents held out from training, TASK.heldout.parquet",
    )
    parser.add_argument(
        "--threads", type=int, default=1, help="processes that encode, on a core each (%(default)s)"
    )
    parser.add_argument(
        "--memory-mb", type=int, default=2000, help="megabytes that the job may take (%(default)s)"
    )
    parser.add_argument(
        "output", type=Path, help="the shard's manifest, TASK.json; the shard lies beside it"
    )
    arguments = parser.parse_args()
    source = read_manifest(arguments.source, kind="source")
    tokenizer = read_manifest(arguments.tokenizer, kind="tokenizer")
    suffix, counts = (".heldout.parquet", "heldout_") if arguments.heldout else (".parquet", "")
    documents, text_bytes = source[f"{counts}documents"], source[f"{counts}text_bytes"]
    # A token stands for more than two bytes of text in any vocabulary that is of use; a shuffled
    # shard is there twice for a time.
    check_space(arguments.output.parent, text_bytes * (2 if arguments.shuffle_seed is None else 4))
    end_token = tokenizer["eos_token"] if arguments.end_token else None
    written = write_shard(
        arguments.source.with_suffix(suffix),
        arguments.tokenizer.parent / "tokenizer.json",
        arguments.output.parent,
        documents,
        end_token=end_token,
        shuffle_seed=arguments.shuffle_seed,
        processes=arguments.threads,
        memory=arguments.memory_mb * 10**6,
    )
    shard = written.shard
    write_manifest(
        arguments.output,
        kind="heldout_tokens" if arguments.heldout else "tokens",
        name=source["name"],
        inputs=[arguments.source, arguments.tokenizer],
        outputs=written.outputs,
        packages=[written.engine],
        # Of one core, as the plan reckons.
        circumstances={
            "tokens_per_second": round(shard.tokens / written.seconds / arguments.threads),
            "threads": arguments.threads,
        },
        language=source["language"],
        documents=shard.documents,
        tokens=shard.tokens,
        text_bytes=text_bytes,
        **({} if arguments.heldout else {"words": source["words"]}),
        tokens_per_byte=round(shard.tokens / text_bytes, 6) if text_bytes else None,
        longest_document=written.longest,
        token_bytes=shard.token_bytes,
        vocab_size=tokenizer["vocab_size"],
        engine=written.engine,
        end_token=end_token,
        shuffle_seed=arguments.shuffle_seed,
    )


if __name__ == "__main__":
    run(main)
