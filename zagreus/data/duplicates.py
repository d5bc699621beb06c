"""Documents of a source that repeat another one, as datatrove finds them.

Near-duplicates by minhash, exact ones by a hash.

No `from __future__ import annotations` here: datatrove reads the annotation of the function that it
hashes by as a type.
"""

import struct
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from datatrove.data import Document
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.dedup import MinhashDedupBuckets, MinhashDedupCluster, MinhashDedupSignature
from datatrove.pipeline.dedup.exact_dedup import (
    ExactDedupConfig,
    ExactDedupSignature,
    ExactFindDedups,
)
from datatrove.pipeline.dedup.minhash import MinhashConfig
from loguru import logger

from zagreus.data.parquet import read_texts

# An error is told once, by zagreus/errors.py; datatrove would print its traceback too, and one more
# for each of its own lines that a full disk does not take.
for _module in ("datatrove.executor", "datatrove.utils.logging"):
    logger.disable(_module)


def find_duplicates(
    texts: Sequence[Path], method: str, language: str, folder: Path, workers: int
) -> list[list[int]]:
    """Return the rows that repeat a document of the same source, by file and in order.

    Of each group of equals one document stays.

    Args:
        texts: the source's parquet files (`id, text`), in order of the tasks.
        method: `minhash`, documents of which about three quarters of the 5-word sequences agree
            (datatrove's defaults: 14 buckets of 8 hashes, so that a pair of 0.75 is found with a
            probability of 0.77, one of 0.8 with 0.92); `exact`, the same text; `url`, the same
            `id`.
        language: whose words `minhash` counts, as in `word_language`.
        folder: for what datatrove writes on the way. Steps that stand there finished, from a job
            that was ended, are not done again.
        workers: processes.
    """

    def execute(name: str, steps: list, tasks: int) -> None:
        LocalPipelineExecutor(
            steps, tasks=tasks, workers=min(workers, tasks), logging_dir=str(folder / "logs" / name)
        ).run()

    signatures, pairs, removed = (str(folder / name) for name in ("signatures", "pairs", "removed"))
    read = partial(_read, [str(path) for path in texts])
    if method == "minhash":
        config = MinhashConfig()
        execute(
            "signatures", [read, MinhashDedupSignature(signatures, config, language)], len(texts)
        )
        # datatrove reads five signatures at a time unless told otherwise; 1,000 are 66 kB for each
        # file.
        execute(
            "pairs",
            [MinhashDedupBuckets(signatures, pairs, config=config, lines_to_buffer=1000)],
            config.num_buckets,
        )
        execute("removed", [MinhashDedupCluster(pairs, removed, config, lines_to_buffer=1000)], 1)
        return [_numbers(folder / f"removed/{task:06d}.remove") for task in range(len(texts))]
    config = ExactDedupConfig(content_getter=_text if method == "exact" else _id)
    execute("signatures", [read, ExactDedupSignature(signatures, config)], len(texts))
    execute("removed", [ExactFindDedups(signatures, removed, config, lines_to_buffer=1000)], 1)
    return [_numbers(folder / f"removed/00000/{task:05d}.c4_dup") for task in range(len(texts))]


def _read(paths: list[str], data: object, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
    """Yield the documents of one file, as the first step of a datatrove pipeline.

    A document's number there is its row.
    """
    for identity, text in read_texts(Path(paths[rank]), paths[rank], "text", "id"):
        yield Document(text=text, id=identity)


def _text(document: Document) -> str:
    return document.text


def _id(document: Document) -> str:
    return document.id


def _numbers(path: Path) -> list[int]:
    """Read a list of document numbers as datatrove writes it (unsigned, 4 bytes each).

    No file is none.
    """
    return (
        sorted(number for (number,) in struct.iter_unpack("<I", path.read_bytes()))
        if path.exists()
        else []
    )
