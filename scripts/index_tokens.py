r"""Write the manifest that stands for all token shards of a source.

A training has this one small file among its inputs, instead of every shard.

    python -P scripts/index_tokens.py --source fineweb --language eng --tasks 256 \
        --folder results/zagreus/tokens/fineweb results/zagreus/tokens/fineweb.json
"""

from __future__ import annotations

import argparse
from pathlib import Path

from zagreus.errors import run
from zagreus.manifest import read_manifest, write_manifest


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--source", required=True, help="name of the source")
    parser.add_argument("--language", required=True, help="language of its text")
    parser.add_argument("--tasks", type=int, required=True, help="how many shards it has")
    parser.add_argument(
        "--folder", type=Path, required=True, help="where the shards' manifests lie, TASK.json"
    )
    parser.add_argument("output", type=Path, help="the manifest")
    arguments = parser.parse_args()
    # Not on the command line: those of 4,000 shards would be longer than the kernel allows.
    shards = [arguments.folder / f"{task:05d}.json" for task in range(arguments.tasks)]
    read = [read_manifest(shard, "tokens") for shard in shards]
    write_manifest(
        arguments.output,
        kind="token_index",
        name=arguments.source,
        inputs=shards,
        language=arguments.language,
        documents=sum(shard["documents"] for shard in read),
        tokens=sum(shard["tokens"] for shard in read),
    )


if __name__ == "__main__":
    run(main)
