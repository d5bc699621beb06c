"""Token shards in datatrove's format, byte for byte as its ParquetReader and DocumentTokenizer
write them, and checked.

`NAME.ds` holds the tokens of all documents, little-endian, 2 bytes each where the vocabulary has at
most 65,536 entries, else 4; `NAME.ds.index` the end of each document in tokens, little-endian
uint64; `NAME.ds.metadata` three lines: tokenizer and token size, tokens, tokens for people.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import humanize
import numpy as np
from tqdm import tqdm

from zagreus.data.batches import open_parquet, sample
from zagreus.data.encode import ReferenceEncoder, check_equal, choose_encoder, read_tokenizer
from zagreus.data.foreign_tokenizer import vocabulary_size
from zagreus.data.hashed import HashedFile
from zagreus.data.shard_files import Shard, check_shard
from zagreus.data.workers import Chunk, Text, encoding
from zagreus.errors import InputError

# The interpreter, its libraries and the engines with a vocabulary of 128,256 entries; 570 MB
# measured.
BASE_MEMORY = 800 * 10**6
# What a worker process has for itself (the engine's cache, batches, its buffer); 107 MB measured.
WORKER_MEMORY = 150 * 10**6


@dataclass
class Written:
    """A shard that was made here.

    `outputs` are path, bytes and sha256 of its files, `longest` the tokens of the longest document.
    """

    shard: Shard
    outputs: list[dict[str, Any]]
    engine: str
    longest: int
    seconds: float


def shard_name(task: str, shuffled: bool) -> str:
    """Return how datatrove calls the file of a task, without `.ds`."""
    return f"{task}_00000_doc_shuffled" if shuffled else f"{task}_unshuffled"


def write_shard(
    parquet: Path,
    tokenizer: Path,
    folder: Path,
    documents: int,
    *,
    end_token: str | None = None,
    shuffle_seed: int | None = None,
    processes: int = 1,
    memory: int = 2 * 10**9,
) -> Written:
    """Tokenize a parquet file (`id, text`) to `folder/TASK_unshuffled.ds` and its companions.

    TASK is the parquet file's stem.

    Args:
        parquet: the text.
        tokenizer: `tokenizer.json`; its path as given stands in the metadata.
        folder: where the shard goes.
        documents: how many rows the parquet file must have; those without text (null or empty) give
            no document, as with datatrove.
        end_token: a token after every document, in place of what the tokenizer itself puts around a
            text.
        shuffle_seed: puts the documents in another order, as datatrove's `shuffle_documents` with
            that seed; the file is then called `TASK_00000_doc_shuffled.ds`.
        processes: so many encode, on a core each; one is this process itself.
        memory: bytes that they may take in all; it is not passed by batches of any size, and a
            document that would is refused.

    Raises:
        InputError: the parquet file is damaged or has another number of documents, the memory is
            too little for the processes or a document, the engine gives other tokens than the
            reference on a sample of the documents, a process was killed, or the shard does not add
            up.
    """
    started = time.monotonic()
    with open_parquet(parquet, documents) as opened:
        task = parquet.stem
        description, loaded = read_tokenizer(tokenizer, end_token)
        encoder, refusal = choose_encoder(description, loaded)
        fixed = BASE_MEMORY + (processes * WORKER_MEMORY if processes > 1 else 0)
        longest_bytes = (memory - fixed) // (processes * encoder.bytes_per_byte)
        if longest_bytes <= 0:
            raise InputError(
                f"{memory / 1e6:.0f} MB of memory, more than {fixed / 1e6:.0f} MB needed with "
                f"{processes} cores"
            )
        tqdm.write(
            f"engine {encoder.name}{f' (fastokens: {refusal})' if refusal else ''}, cores "
            f"{processes}, {memory / 1e6:.0f} MB of memory:"
            f" documents of up to {longest_bytes / 1e6:.0f} MB"
        )
        if refusal is None:
            documents_compared = sample(opened, parquet)
            check_equal(encoder, ReferenceEncoder(loaded), documents_compared)
            tqdm.write(f"{len(documents_compared)} documents give the same tokens with tokenizers")
        partial = folder / f".{task}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        try:
            size = vocabulary_size(loaded)
            token_bytes = 2 if size <= 2**16 else 4
            data = partial / f"{shard_name(task, False)}.ds"
            text = Text(
                parquet, documents, encoder, token_bytes, memory // (4 * processes), longest_bytes
            )
            with encoding(text, opened, processes) as chunks:
                outputs, ends = _write(data, chunks, token_bytes, documents)
            if shuffle_seed is not None:
                ordered = partial / f"{shard_name(task, True)}.ds"
                outputs, ends = _shuffle(data, ordered, ends, token_bytes, shuffle_seed)
                data.unlink()
                data = ordered
            outputs += _write_companions(data, ends, f"{tokenizer}|{token_bytes}")
            shard = check_shard(data, size)
            for stale in folder.glob(f"{task}_*.ds*"):
                stale.unlink()
            for file in shard.files:
                os.replace(file, folder / file.name)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    shard.files = [folder / file.name for file in shard.files]
    for output in outputs:
        output["path"] = str(folder / Path(output["path"]).name)
    longest = int(np.diff(ends, prepend=np.uint64(0)).max(initial=0))
    return Written(shard, outputs, encoder.name, longest, time.monotonic() - started)


def _write(
    data: Path, chunks: Iterable[Chunk], token_bytes: int, documents: int
) -> tuple[list[dict[str, Any]], Any]:
    """Write the tokens; return the description of the file, and the document ends in tokens."""
    ends: list[Any] = []
    tokens, text, started = 0, 0, time.monotonic()
    with (
        HashedFile(data) as file,
        tqdm(total=documents, unit=" documents", desc="tokenize", mininterval=1) as bar,
    ):
        for chunk in chunks:
            file.write(chunk.tokens)
            ends.append(chunk.ends + np.uint64(tokens))
            tokens += len(chunk.tokens) // token_bytes
            text += chunk.text_bytes
            rate = 1e-6 / max(time.monotonic() - started, 1e-9)
            bar.set_postfix_str(
                f"{tokens / 1e6:.1f} M tokens, {text * rate:.1f} MB/s, {tokens * rate:.2f} M "
                "tokens/s",
                refresh=False,
            )
            bar.update(len(chunk.ends))
    return [file.describe()], np.concatenate(ends) if ends else np.zeros(0, np.uint64)


def _shuffle(
    data: Path, ordered: Path, ends: Any, token_bytes: int, seed: int
) -> tuple[list[dict[str, Any]], Any]:
    """Write the documents in the order of numpy's `default_rng(seed).permutation`, which is
    datatrove's.
    """
    order = np.random.default_rng(seed).permutation(len(ends))
    starts = np.concatenate([np.zeros(1, np.uint64), ends[:-1]])
    tokens = np.memmap(data, dtype=f"<u{token_bytes}", mode="r") if len(order) else np.zeros(0)
    with HashedFile(ordered) as file:
        for document in order:
            file.write(tokens[int(starts[document]) : int(ends[document])].data.cast("B"))
    return [file.describe()], np.cumsum((ends - starts)[order], dtype=np.uint64)


def _write_companions(data: Path, ends: Any, header: str) -> list[dict[str, Any]]:
    tokens = int(ends[-1]) if len(ends) else 0
    contents = {
        ".ds.index": ends.astype("<u8").tobytes(),
        ".ds.metadata": f"{header}\n{tokens}\n{humanize.metric(tokens, unit='T')}".encode(),
    }
    described = []
    for suffix, content in contents.items():
        with HashedFile(data.with_suffix(suffix)) as file:
            file.write(content)
        described.append(file.describe())
    return described
