"""The reference, computed by transformers and torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy
import torch
import transformers

from zagreus.errors import InputError
from zagreus.evaluation.folder import check_chat
from zagreus.evaluation.templates import render
from zagreus.export.reference import (
    CONVERSATIONS,
    Reference,
    documents_of,
    kept_rows,
    predictions,
)
from zagreus.export.texts import token_texts


def reference_of(folder: Path, texts: Mapping[str, Sequence[str]]) -> Reference:
    """Compute what exports of a model folder are compared with, in fp32 on the CPU.

    Args:
        folder: the model.
        texts: held-out texts of each language.

    Raises:
        InputError: the vocabulary is larger than the embedding, or there is no text.
    """
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    config = transformers.AutoConfig.from_pretrained(folder)
    if len(tokenizer) > config.vocab_size:
        raise InputError(
            f"{folder}: the vocabulary has {len(tokenizer):,} entries, the model's embedding "
            f"{config.vocab_size:,} rows"
        )
    documents = documents_of(tokenizer, texts, config.max_position_embeddings)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    special = [str(token) for token in tokenizer.all_special_tokens]
    probes = [*token_texts(special), *(text for group in texts.values() for text in group)]
    rows = kept_rows(sum(len(item.ids) - 1 for item in documents))
    logprobs, greedy, logits, start = [], [], [], 0
    for item in documents:
        document_logits = _logits(model, item.ids)
        predicted = predictions(document_logits, item.ids)
        logprobs.append(predicted[0])
        greedy.append(predicted[1])
        inside = rows[(rows >= start) & (rows < start + len(item.ids) - 1)]
        logits.append(document_logits[inside - start])
        start += len(item.ids) - 1
    return Reference(
        documents=documents,
        texts=[(text, list(tokenizer(text)["input_ids"])) for text in probes],
        chats=_chats(tokenizer, folder),
        logprobs=numpy.concatenate(logprobs),
        greedy=numpy.concatenate(greedy),
        rows=rows,
        logits=numpy.concatenate(logits),
    )


def _logits(model: Any, ids: Sequence[int]) -> numpy.ndarray:
    with torch.inference_mode():
        logits: numpy.ndarray = model(torch.tensor([list(ids)]), use_cache=False).logits[0].numpy()
    return logits


def _chats(tokenizer: Any, folder: Path) -> list[tuple[list[dict[str, str]], str]]:
    """Return rendered conversations; none for a model that ends no turn."""
    try:
        check_chat(tokenizer, folder)
    except InputError:
        return []
    result = []
    for messages in CONVERSATIONS:
        try:
            result.append((messages, render(tokenizer, messages, str(folder))))
        except InputError:
            continue  # a template may refuse a system message: the others remain
    return result
