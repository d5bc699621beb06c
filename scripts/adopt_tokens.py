r"""Put a token shard made elsewhere in the place of a source's shard.

The shard is checked against the tokenizer, hashed and recorded. The program needs no image. It
links files of the same file system, and copies others.

    python -P scripts/adopt_tokens.py --folder /data/fineweb \
        --origin 'tokenized by ... with datatrove' --source fineweb --language eng --task 0 \
        --tasks 256 --name 00000_unshuffled \
        --tokenizer results/zagreus/tokenizer/manifest.json \
        results/zagreus/tokens/fineweb/00000.json
"""

from __future__ import annotations

import argparse
import os
import shutil
from pathlib import Path

from zagreus.data.shard_files import SUFFIXES, check_marks, check_shard, nth_shard
from zagreus.errors import run
from zagreus.manifest import describe, read_manifest, write_manifest


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--folder",
        type=Path,
        required=True,
        help="folder of shards (*.ds with *.ds.index and *.ds.metadata)",
    )
    parser.add_argument("--origin", required=True, help="who made them and how, for the manifest")
    parser.add_argument("--source", required=True, help="name of the source whose place they take")
    parser.add_argument("--language", required=True, help="language of its text")
    parser.add_argument(
        "--task",
        type=int,
        required=True,
        help="which shard: the file of this number in the order of names",
    )
    parser.add_argument("--tasks", type=int, required=True, help="how many shards there must be")
    parser.add_argument("--name", required=True, help="what the shard is called here, without .ds")
    parser.add_argument(
        "--tokenizer", type=Path, required=True, help="manifest of the run's tokenizer"
    )
    parser.add_argument(
        "--end-token",
        action="store_true",
        help="each document ends with the end token, in place of a begin token before it",
    )
    parser.add_argument(
        "output", type=Path, help="the shard's manifest, TASK.json; the shard lies beside it"
    )
    arguments = parser.parse_args()

    shard = nth_shard(arguments.folder, arguments.task, arguments.tasks)
    tokenizer = read_manifest(arguments.tokenizer, "tokenizer")
    contents = check_shard(shard, tokenizer["vocab_size"])
    longest = check_marks(contents, arguments.tokenizer, arguments.end_token)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    outputs = [arguments.output.parent / f"{arguments.name}{suffix}" for suffix in SUFFIXES]
    for suffix, output in zip(SUFFIXES, outputs, strict=True):
        link_or_copy(shard.with_suffix(suffix), output)
    described = [describe(output) for output in outputs]
    write_manifest(
        arguments.output,
        kind="tokens",
        name=f"{arguments.source}/{arguments.task:05d}",
        inputs=[arguments.tokenizer],
        outputs=described,
        circumstances={"folder": str(arguments.folder)},
        language=arguments.language,
        documents=contents.documents,
        tokens=contents.tokens,
        text_bytes=None,
        words=None,
        tokens_per_byte=None,
        longest_document=longest,
        token_bytes=contents.token_bytes,
        vocab_size=tokenizer["vocab_size"],
        engine=None,
        end_token=tokenizer["eos_token"] if arguments.end_token else None,
        shuffle_seed=None,
        adopted=arguments.origin,
        origin=[
            item | {"path": shard.with_suffix(suffix).name}
            for suffix, item in zip(SUFFIXES, described, strict=True)
        ],
    )


def link_or_copy(source: Path, output: Path) -> None:
    """Link a file under another name, or copy it where it cannot be linked; whole or not at all."""
    partial = output.with_name(f".{output.name}.partial")
    partial.unlink(missing_ok=True)
    try:
        os.link(source, partial)
    except OSError:
        shutil.copyfile(source, partial)
    os.replace(partial, output)


if __name__ == "__main__":
    run(main)
