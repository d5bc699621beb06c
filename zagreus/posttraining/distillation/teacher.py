"""The teacher of a distillation: the same tokenizer, and what it answers right."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zagreus.errors import InputError
from zagreus.posttraining.distillation.prompts import Prompt

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

# What decides the ids of a text. The post-processor only adds a BOS, which no prompt has.
DECIDING = ("model", "normalizer", "pre_tokenizer")


def check_tokenizer(student: Path, teacher: Path) -> None:
    """Raise `InputError` unless two model folders have the same tokenizer and vocabulary size.

    The divergence compares the two distributions of the next token, id by id.
    """
    contents = [_tokenizer(folder) for folder in (student, teacher)]
    added = [_added(content) for content in contents]
    differing = [key for key in DECIDING if contents[0].get(key) != contents[1].get(key)]
    if added[0] != added[1]:
        differing.append("added_tokens")
    if differing:
        raise InputError(
            f"teacher {teacher}: another tokenizer than the student's {student} "
            f"({', '.join(differing)} of tokenizer.json differ); expected the same"
        )
    sizes = [_config(folder)["vocab_size"] for folder in (student, teacher)]
    if sizes[0] != sizes[1]:
        raise InputError(
            f"teacher {teacher}: a vocabulary of {sizes[1]:,} rows, the student {student} has "
            f"{sizes[0]:,}; expected the same"
        )


def _tokenizer(folder: Path) -> dict[str, Any]:
    file = folder / "tokenizer.json"
    if not file.exists():
        raise InputError(f"{folder}: a model folder without tokenizer.json")
    return dict(json.loads(file.read_text(encoding="utf-8")))


def _added(content: dict[str, Any]) -> dict[str, int]:
    return {token["content"]: token["id"] for token in content["added_tokens"]}


def _config(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "config.json").read_text(encoding="utf-8")))


def template_note(teacher: Path, text: str) -> str | None:
    """Return a note where the teacher was trained with another chat template, or with none.

    Args:
        teacher: its model folder.
        text: the chat template that the prompts are rendered with.
    """
    file = teacher / "chat_template.jinja"
    if not file.exists():
        return f"the teacher {teacher} has no chat template; it reads the student's prompts"
    if file.read_text(encoding="utf-8").strip() != text.strip():
        return f"the teacher {teacher} has another chat template; it reads the student's prompts"
    return None


def answers_right(
    teacher: PreTrainedModel, prompts: Sequence[Prompt], batch: int, pad: int
) -> list[bool]:
    """Return for each prompt whether the teacher's greedy answer is the reference answer.

    One forward pass over prompt and answer shows it: the greedy answer is the reference exactly if
    each of its tokens, the end of the turn included, is the most likely one after those before it.

    Args:
        teacher: the model.
        prompts: prompts with their reference answers.
        batch: prompts of a forward pass.
        pad: id that fills short rows.
    """
    import torch

    right = [False] * len(prompts)
    for indices in batches([len(item.prompt) + len(item.answer) for item in prompts], batch):
        rows = [prompts[index] for index in indices]
        ids, mask = left_padded([row.prompt + row.answer for row in rows], pad, teacher.device)
        longest = max(len(row.answer) for row in rows)
        with torch.inference_mode():
            logits = teacher(
                input_ids=ids,
                attention_mask=mask,
                position_ids=(mask.cumsum(-1) - 1).clamp(min=0),
                logits_to_keep=longest + 1,
                use_cache=False,
            ).logits
        greedy = logits[:, :-1].argmax(-1).tolist()
        for index, row, answer in zip(indices, rows, greedy, strict=True):
            right[index] = answer[longest - len(row.answer) :] == row.answer
    return right


def batches(lengths: Sequence[int], size: int) -> Iterator[list[int]]:
    """Yield the indices of rows in batches of about one length: little padding."""
    order = sorted(range(len(lengths)), key=lambda index: (lengths[index], index))
    for start in range(0, len(order), size):
        yield order[start : start + size]


def left_padded(
    rows: Sequence[Sequence[int]], pad: int, device: torch.device | str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ids and attention mask of rows that end together, both (rows, longest row)."""
    import torch

    longest = max(map(len, rows))
    ids = torch.tensor([[pad] * (longest - len(row)) + list(row) for row in rows])
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])
    return ids.to(device), mask.to(device)
