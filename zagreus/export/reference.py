"""What transformers computes of a model in fp32: the measure of every export.

One reference serves all formats of a checkpoint, so that jobs of formats need no torch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
import safetensors.numpy

from zagreus.errors import InputError

# Held-out documents of a language, and tokens of each: some 4,000 predictions a language.
DOCUMENTS, TOKENS = 16, 256
# Positions whose logits are kept whole: 32 x 128,256 x 4 bytes are 16 MB.
LOGIT_ROWS = 32

CONVERSATIONS: tuple[list[dict[str, str]], ...] = (
    [{"role": "user", "content": "Come stai?"}],
    [
        {"role": "system", "content": "You answer in one line."},
        {"role": "user", "content": "What is <b>2 + 2</b> & why?\n\nTell me."},
    ],
    [
        {"role": "user", "content": "Ciao"},
        {"role": "assistant", "content": "Ciao! Come posso aiutarti?"},
        {"role": "user", "content": "  perché  "},
    ],
)


@dataclass(frozen=True)
class Document:
    """A held-out text: its tokens, and how many bytes of it the tokens after the first are."""

    language: str
    """ISO 639-3 code."""
    ids: list[int]
    """Token ids."""
    bytes: int
    """UTF-8 bytes of all tokens but the first."""


@dataclass(frozen=True)
class Reference:
    """What every export of a checkpoint is compared with."""

    documents: list[Document]
    """Held-out texts; each predicts all of its tokens but the first."""
    texts: list[tuple[str, list[int]]]
    """Tokenizer test set, held-out texts among it, with the tokenizer's ids."""
    chats: list[tuple[list[dict[str, str]], str]]
    """Conversations as the chat template renders them; empty for a base model."""
    logprobs: numpy.ndarray
    """Natural logarithm of each predicted token's probability, float32 [P]."""
    greedy: numpy.ndarray
    """Likeliest token at each of these positions, int32 [P]."""
    rows: numpy.ndarray
    """Positions whose logits are kept, int32 [K]."""
    logits: numpy.ndarray
    """These logits, float32 [K, vocabulary]."""

    def save(self, folder: Path) -> None:
        """Write `reference.json` and `reference.safetensors`; equal content gives equal bytes."""
        content = {
            "documents": [vars(item) for item in self.documents],
            "texts": self.texts,
            "chats": self.chats,
        }
        (folder / "reference.json").write_text(
            json.dumps(content, ensure_ascii=True) + "\n", encoding="utf-8"
        )
        arrays = {
            name: numpy.ascontiguousarray(getattr(self, name))
            for name in ("logprobs", "greedy", "rows", "logits")
        }
        safetensors.numpy.save_file(arrays, folder / "reference.safetensors")

    @classmethod
    def load(cls, folder: Path) -> Reference:
        """Read what `save` wrote. Raise `InputError` where a file is missing."""
        try:
            content = json.loads((folder / "reference.json").read_text(encoding="utf-8"))
            arrays = safetensors.numpy.load_file(folder / "reference.safetensors")
        except FileNotFoundError as error:
            raise InputError(f"{error.filename}: no such file, expected a reference") from None
        return cls(
            documents=[Document(**item) for item in content["documents"]],
            texts=[(text, ids) for text, ids in content["texts"]],
            chats=[(messages, text) for messages, text in content["chats"]],
            **arrays,
        )

    @property
    def spans(self) -> list[slice]:
        """Which of the predicted positions are each document's."""
        starts = numpy.cumsum([0, *(len(item.ids) - 1 for item in self.documents)])
        return [
            slice(int(start), int(stop))
            for start, stop in zip(starts[:-1], starts[1:], strict=True)
        ]


def predictions(logits: numpy.ndarray, ids: Sequence[int]) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Return log-probabilities of the tokens after the first, and the likeliest tokens there.

    Args:
        logits: float32 [len(ids), vocabulary] of a sequence from its beginning.
        ids: the sequence.
    """
    rows = logits[:-1]
    places, after = numpy.arange(len(rows)), numpy.asarray(ids[1:])
    greedy = rows.argmax(axis=-1)
    largest = rows[places, greedy]
    # Sums of fp32 terms in double precision, row by row: a copy of all logits would be 260 MB.
    total = [
        numpy.exp(row - top).sum(dtype=numpy.float64)
        for row, top in zip(rows, largest, strict=True)
    ]
    logprobs = (rows[places, after] - largest).astype(numpy.float64) - numpy.log(total)
    return logprobs.astype(numpy.float32), greedy.astype(numpy.int32)


def kept_rows(positions: int) -> numpy.ndarray:
    """Return which positions' logits are kept: evenly spread, the last one among them."""
    count = min(LOGIT_ROWS, positions)
    return numpy.unique(numpy.linspace(0, positions - 1, count).round().astype(numpy.int32))


def document_of(tokenizer: Any, language: str, text: str, context: int) -> Document | None:
    """Return a text's first tokens, up to `TOKENS` or the context; None where it predicts none.

    Args:
        tokenizer: of transformers.
        language: of the text.
        text: the text.
        context: the model's longest sequence.
    """
    encoding = tokenizer(text, return_offsets_mapping=True)
    length = min(TOKENS, context, len(encoding["input_ids"]))
    if length < 2:
        return None
    ends = [end for _, end in encoding["offset_mapping"][:length]]
    covered = len(text[ends[0] : ends[length - 1]].encode("utf-8"))
    return Document(language, list(encoding["input_ids"][:length]), covered) if covered else None


def documents_of(
    tokenizer: Any, texts: Mapping[str, Sequence[str]], context: int
) -> list[Document]:
    """Return the documents of all languages. Raise `InputError` for a language without any."""
    result = []
    for language, language_texts in texts.items():
        made = [
            document_of(tokenizer, language, text, context) for text in language_texts[:DOCUMENTS]
        ]
        kept = [item for item in made if item is not None]
        if not kept:
            raise InputError(f"held-out text of {language}: no document of two tokens or more")
        result += kept
    return result
