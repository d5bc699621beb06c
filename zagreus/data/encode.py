"""Engines that turn texts into token ids: a fast one, and the reference that it must equal.

The reference is `tokenizers`, which datatrove uses. The fast one is fastokens: of the engines that
were measured the fastest with bounded memory whose ids were equal on every text (0.3.5: none of
400,000 hostile strings differed). Both are held to one thread: all differences ever found in the
fast one came from cutting one text for several threads, and processes that are forked from one
without threads (zagreus/data/workers.py) share its tables.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer
from tqdm import tqdm

from zagreus.errors import InputError

Ids = npt.NDArray[np.uint32]
Ends = npt.NDArray[np.uint64]


class Encoder(Protocol):
    """An engine. `bytes_per_byte`.

    The memory that it takes for one long text, in bytes for each byte of the text, measured.
    """

    name: str
    bytes_per_byte: int

    def encode(self, texts: list[str]) -> tuple[Ids, Ends]:
        """Return the ids of all texts one after another, and where each text ends among them.

        Begin or end tokens included.
        """


class ReferenceEncoder:
    """`tokenizers`."""

    name = "tokenizers"
    bytes_per_byte = 140  # 131 measured with 8 MB of text in one document

    def __init__(self, tokenizer: Tokenizer) -> None:
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        self._tokenizer = tokenizer

    def encode(self, texts: list[str]) -> tuple[Ids, Ends]:
        encoded = [
            np.asarray(encoding.ids, dtype=np.uint32)
            for encoding in self._tokenizer.encode_batch(texts)
        ]
        ends = np.cumsum([len(ids) for ids in encoded], dtype=np.uint64)
        return np.concatenate(encoded) if encoded else np.zeros(0, np.uint32), ends


class FastEncoder:
    """fastokens.

    Raises:
        ValueError: it cannot serve this tokenizer.
    """

    name = "fastokens"
    bytes_per_byte = (
        12  # 5.2 measured with 39 MB of text in one document, the text itself up to 5 more
    )

    def __init__(self, description: str) -> None:
        os.environ["FASTOKENS_BPE_THREADS"] = "1"
        import fastokens

        self._tokenizer = fastokens.Tokenizer.from_json_str(description)

    def encode(self, texts: list[str], special: bool = True) -> tuple[Ids, Ends]:
        """As `Encoder`; `special`: with begin or end tokens, or without."""
        ids, offsets = self._tokenizer.encode_batch_flat(texts, add_special_tokens=special)
        return np.frombuffer(ids, dtype="<u4"), np.frombuffer(offsets, dtype="<u8")[1:]


def read_tokenizer(path: Path, end_token: str | None) -> tuple[str, Tokenizer]:
    """Return a `tokenizer.json` as it is to encode documents, as text and loaded.

    Llama-3's takes half a second to load.

    Args:
        path: the file.
        end_token: None keeps what the tokenizer itself puts around a text (Llama's: a begin token
            before it, nothing after it). A token takes the place of that: after every document, and
            nothing before it. Both as datatrove's `eos_token`.

    Raises:
        InputError: no tokenizer, it has no such token, or no token would stand between documents.
    """
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises plain Exception for a missing or a bad file
        raise InputError(f"{path}: not a tokenizer ({str(error).splitlines()[0]})") from None
    text = path.read_text(encoding="utf-8")
    if tokenizer.truncation is not None or tokenizer.padding is not None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        text = tokenizer.to_str()
    if end_token is None:
        if not tokenizer.num_special_tokens_to_add(False):
            raise InputError(
                f"{path}: the tokenizer puts no token around a text, so that documents would run"
                " together; set `end_token: true` in `shards`"
            )
        return text, tokenizer
    own = _own_marks(tokenizer)
    if own and own != [end_token]:
        tqdm.write(
            f"{end_token} after each document, in place of what the tokenizer adds: "
            f"{', '.join(own)}"
        )
    number = tokenizer.token_to_id(end_token)
    if number is None:
        raise InputError(f"{path}: no token '{end_token}' to end documents with")
    description = json.loads(tokenizer.to_str())
    description["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [
            {"Sequence": {"id": "A", "type_id": 0}},
            {"SpecialToken": {"id": end_token, "type_id": 0}},
        ],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {end_token: {"id": end_token, "ids": [number], "tokens": [end_token]}},
    }
    text = json.dumps(description, ensure_ascii=False)
    return text, Tokenizer.from_str(text)


def _own_marks(tokenizer: Tokenizer) -> list[str]:
    """Return the tokens that a tokenizer itself puts around a text."""
    encoded = tokenizer.encode("a")
    marks = zip(encoded.tokens, encoded.special_tokens_mask, strict=True)
    return [token for token, special in marks if special]


def choose_encoder(description: str, tokenizer: Tokenizer) -> tuple[Encoder, str | None]:
    """Return the fast engine, or the reference and the reason where the fast one cannot serve the
    tokenizer.
    """
    try:
        return FastEncoder(description), None
    except Exception as error:  # its errors have no common class but this one
        return ReferenceEncoder(tokenizer), str(error).splitlines()[0]


def check_equal(encoder: Encoder, reference: Encoder, documents: Sequence[tuple[str, str]]) -> None:
    """Compare two engines on documents, `(id, text)`.

    Raises:
        InputError: one differs; it is named.
    """
    texts = [text for _, text in documents]
    (ids, ends), (expected, expected_ends) = encoder.encode(texts), reference.encode(texts)
    if np.array_equal(ids, expected) and np.array_equal(ends, expected_ends):
        return
    for identity, text in documents:
        ours, reference_ids = encoder.encode([text])[0], reference.encode([text])[0]
        if not np.array_equal(ours, reference_ids):
            index = next(
                (i for i, (a, b) in enumerate(zip(ours, reference_ids, strict=False)) if a != b),
                min(len(ours), len(reference_ids)),
            )
            raise InputError(
                f"document {identity}: {encoder.name} and {reference.name} differ from token "
                f"{index} on"
                f" ({ours[index : index + 3].tolist()}, expected "
                f"{reference_ids[index : index + 3].tolist()})"
            )
    raise InputError(
        f"{encoder.name} encodes a batch of {len(documents)} documents otherwise than one by one; "
        f"{documents[0][0]} is the first"
    )
