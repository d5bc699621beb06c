"""The engine that turns a task's requests into tokens.

Fastokens where it gives the same as the model's own tokenizer, else that.

MMLU's 14,042 questions, each with four answers after five examples, are 50 million tokens: over a
minute with `tokenizers`, longer than a small model needs for them on a GPU.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from zagreus.data.encode import FastEncoder

LOGGER = logging.getLogger(__name__)

# Characters of a task's requests from which on loading the engine (up to a second) pays.
WORTH = 4 * 10**6
# Texts from all over a task that both encode before the engine is trusted with it, besides those
# that bring in another character.
COMPARED = 64

Encode = Callable[[list[str], bool], list[list[int]]]


def plain_engine(tokenizer: Any) -> Encode:
    """Return how a transformers tokenizer encodes texts, with its special tokens around each or
    without.
    """

    def encode(texts: list[str], special: bool) -> list[list[int]]:
        ids: list[list[int]] = tokenizer(
            texts, return_attention_mask=False, add_special_tokens=special
        )["input_ids"]
        return ids

    return encode


@lru_cache(maxsize=1)  # a model's tokenizer serves all of its tasks
def fast_engine(tokenizer: Any) -> Encode:
    """Return the same with fastokens.

    Raises:
        ValueError: it cannot serve this tokenizer.
    """
    try:
        backend = tokenizer.backend_tokenizer
        backend.no_truncation()  # as transformers does before it encodes
        backend.no_padding()
        engine = FastEncoder(backend.to_str())
    except Exception as error:  # its errors have no common class but this one
        raise ValueError(str(error).splitlines()[0]) from None

    def encode(texts: list[str], special: bool) -> list[list[int]]:
        ids, ends = engine.encode(texts, special)
        return [part.tolist() for part in np.split(ids, ends[:-1].tolist())]

    return encode


def choose_engine(tokenizer: Any, texts: Sequence[str], special: bool) -> Encode:
    """Return the engine for some texts.

    Fastokens where they are many, it can serve the tokenizer, and a sample of them comes out the
    same.
    """
    plain = plain_engine(tokenizer)
    if sum(map(len, texts)) < WORTH:
        return plain
    try:
        fast = fast_engine(tokenizer)
    except ValueError as error:
        LOGGER.warning(
            "requests are encoded with the model's own tokenizer: fastokens cannot serve it (%s)",
            error,
        )
        return plain
    compared = sample(texts)
    if fast(compared, special) != plain(compared, special):
        LOGGER.warning(
            "requests are encoded with the model's own tokenizer: fastokens gives other tokens "
            "for one of %d",
            len(compared),
        )
        return plain
    return fast


def sample(texts: Sequence[str]) -> list[str]:
    """Return texts from all over, and the first with each character beyond ASCII.

    Engines differ, if at all, in how they class characters.
    """
    chosen = [texts[int(index)] for index in np.linspace(0, len(texts) - 1, COMPARED)]
    seen: set[str] = set()
    for text in texts:
        if not text.isascii() and (new := set(text) - seen):
            seen |= new
            chosen.append(text)
    return chosen
