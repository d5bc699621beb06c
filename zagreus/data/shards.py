"""Token shards in datatrove's format, written by datatrove itself, and checked.

`NAME.ds` holds the tokens of all documents, little-endian, 2 bytes each where the vocabulary has at most 65,536 entries, else 4;
`NAME.ds.index` the end of each document in tokens, little-endian uint64; `NAME.ds.metadata` three lines: tokenizer and token
size, tokens, tokens for people.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datatrove.pipeline.readers import ParquetReader
from datatrove.pipeline.tokens import DocumentTokenizer
from tokenizers import Tokenizer
from tqdm import tqdm

from zagreus.errors import InputError

SUFFIXES = (".ds", ".ds.index", ".ds.metadata")


@dataclass
class Shard:
    """A shard's files and what is in them."""

    files: list[Path]
    documents: int
    tokens: int
    token_bytes: int


def write_shard(parquet: Path, tokenizer: Path, folder: Path, documents: int) -> Shard:
    """Tokenize a parquet file (`id, text`) to `folder/TASK_unshuffled.ds` and its companions; TASK is the parquet file's stem.

    Args:
        parquet: the text.
        tokenizer: `tokenizer.json`; its path as given stands in the metadata.
        folder: where the shard goes.
        documents: how many documents the parquet file must have.

    Raises:
        InputError: the parquet file is damaged, empty or has another number of documents, or the shard does not add up.
    """
    _check_parquet(parquet, documents)
    task = parquet.stem
    partial = folder / f".{task}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    try:
        _tokenize(parquet, tokenizer, partial, documents)
        shard = check_shard(partial / f"{task}_unshuffled.ds", Tokenizer.from_file(str(tokenizer)).get_vocab_size())
        if shard.documents != documents:
            raise InputError(f"{parquet}: {documents} documents went in, {shard.documents} came out as tokens")
        for file in shard.files:
            os.replace(file, folder / file.name)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    shard.files = [folder / file.name for file in shard.files]
    return shard


def _tokenize(parquet: Path, tokenizer: Path, folder: Path, documents: int) -> None:
    """Run datatrove on one file. No end token is given: datatrove then keeps the tokenizer's own begin token, and adds no end."""
    reader = ParquetReader(str(parquet.parent), glob_pattern=parquet.name, read_metadata=False)
    writer = DocumentTokenizer(str(folder), str(tokenizer), shuffle_documents=False, batch_size=1000)
    writer.run(tqdm(reader.run(), total=documents, unit="document", desc="tokenize"), rank=int(parquet.stem))


def _check_parquet(path: Path, documents: int) -> None:
    try:
        parquet = pq.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{path}: not a whole parquet file ({str(error).splitlines()[0]})") from None
    with parquet:
        if parquet.schema_arrow.names != ["id", "text"]:
            raise InputError(f"{path}: columns {', '.join(parquet.schema_arrow.names)}, expected id, text")
        if parquet.metadata.num_rows != documents:
            raise InputError(f"{path}: {parquet.metadata.num_rows} documents, its manifest says {documents}")
    if documents == 0:
        raise InputError(f"{path}: no document to tokenize")


def check_shard(data: Path, vocab_size: int) -> Shard:
    """Check that a shard's three files agree with one another and with the vocabulary, and return what is in it.

    Args:
        data: the `.ds` file.
        vocab_size: number of tokens of the vocabulary; every id must be below it.

    Raises:
        InputError: a file is missing or has another size than the others say, document ends that do not rise, an id that is
            not in the vocabulary, or no token at all.
    """
    files = [data.with_suffix(suffix) for suffix in SUFFIXES]
    for file in files:
        if not file.is_file():
            raise InputError(f"{file}: missing, the shard is not whole")
    header, count = files[2].read_text(encoding="utf-8").split("\n")[:2]
    tokens, token_bytes = int(count), int(header.rpartition("|")[2])
    ends = np.fromfile(files[1], dtype="<u8")
    if tokens == 0 or len(ends) == 0:
        raise InputError(f"{data}: no tokens")
    if files[0].stat().st_size != tokens * token_bytes:
        raise InputError(f"{data}: {files[0].stat().st_size} bytes, {tokens} tokens of {token_bytes} bytes were expected")
    if ends[-1] != tokens or np.any(ends[1:] <= ends[:-1]) or ends[0] == 0:
        raise InputError(f"{files[1]}: the document ends do not rise to {tokens}")
    ids = np.memmap(data, dtype=f"<u{token_bytes}", mode="r")
    highest = max(int(ids[start : start + 2**24].max()) for start in range(0, tokens, 2**24))
    if highest >= vocab_size:
        raise InputError(f"{data}: token {highest}, the vocabulary has {vocab_size}")
    return Shard(files, len(ends), tokens, token_bytes)
