"""The fp32 model's greedy answers to requests, by transformers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers

from zagreus.errors import InputError
from zagreus.evaluation.templates import render
from zagreus.export.requests import TOKENS, Request, Requests

BATCH = 8  # as `evaluate` writes answers


def requests_of(
    folder: Path, items: Mapping[str, Sequence[Mapping[str, Any]]], limit: int | None
) -> Requests:
    """Return requests with the fp32 model's answers.

    Args:
        folder: the model.
        items: of each data set: `id`, `language`, `messages`, `reference`, `tool`.
        limit: the most items of a data set, the first ones that fit the model.

    Raises:
        InputError: the chat template refuses a conversation, or no request of a data set fits.
    """
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    room = model.config.max_position_embeddings - TOKENS
    chosen: list[tuple[Mapping[str, Any], list[int]]] = []
    for name, rows in items.items():
        prompts = []
        for row in rows:
            text = render(tokenizer, row["messages"], f"{folder}: {name}, item '{row['id']}'")
            prompts.append(list(tokenizer(text, add_special_tokens=False)["input_ids"]))
        fitting = [pair for pair in zip(rows, prompts, strict=True) if len(pair[1]) <= room]
        if not fitting:
            raise InputError(
                f"{name}: no request of at most {room:,} tokens, expected one that leaves room "
                f"for an answer of {TOKENS} in the model's context"
            )
        chosen += fitting[:limit]
    stated = model.generation_config.eos_token_id
    ends = stated if isinstance(stated, list) else [] if stated is None else [stated]
    answers = greedy_answers(model, [prompt for _, prompt in chosen], TOKENS, ends)
    return Requests(
        [
            Request(row["language"], prompt, row["tool"], row["reference"], answer)
            for (row, prompt), answer in zip(chosen, answers, strict=True)
        ],
        ends,
    )


def greedy_answers(
    model: Any, prompts: Sequence[list[int]], new: int, ends: Sequence[int]
) -> list[list[int]]:
    """Return the greedy answers of a transformers model; see `zagreus.export.answers.together`."""
    answers: list[list[int]] = [[] for _ in prompts]
    order = sorted(range(len(prompts)), key=lambda index: -len(prompts[index]))
    for start in range(0, len(order), BATCH):
        part = order[start : start + BATCH]
        width = len(prompts[part[0]])
        gaps = [width - len(prompts[index]) for index in part]
        ids = [[0] * gap + prompts[index] for gap, index in zip(gaps, part, strict=True)]
        mask = [[0] * gap + [1] * (width - gap) for gap in gaps]
        with torch.inference_mode():
            rows = model.generate(
                torch.tensor(ids),
                attention_mask=torch.tensor(mask),
                max_new_tokens=new,
                do_sample=False,
                temperature=None,
                top_p=None,
                top_k=None,
                eos_token_id=list(ends) or None,
                pad_token_id=0,
            )
        for index, row in zip(part, rows[:, width:].tolist(), strict=True):
            stops = [position for position, token in enumerate(row) if token in ends]
            answers[index] = row[: stops[0] + 1] if stops else row
    return answers
