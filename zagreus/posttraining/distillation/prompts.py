"""The prompts of a distillation: what stands before the last assistant turn of a chat row."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from zagreus.atomic import atomic_file
from zagreus.errors import InputError
from zagreus.losses import Losses
from zagreus.posttraining.data import RowChecks, check_losses, stage_rows
from zagreus.posttraining.templates import ChatTemplate
from zagreus.posttraining.turns import IGNORED, Encoded, Encoder
from zagreus.records import RowError, read_records

TOO_LONG = "longer than max_length"


@dataclass(frozen=True)
class Prompt:
    """A prompt and its reference answer, as tokens."""

    prompt: list[int]
    """Ids up to where the assistant begins its last turn."""
    answer: list[int]
    """Ids of the last turn in the data, with the token that ends it."""


@dataclass(frozen=True)
class Prompts:
    """The prompts of a data set."""

    kept: list[Prompt]
    """Those that are used, in the order of the rows."""
    row_count: int
    """Rows of the data set."""
    losses: Losses
    """Rows that are left out."""


def read_prompts(
    data: Path,
    entry: Mapping[str, Any],
    recipe: Mapping[str, Any],
    base: Path,
    template: ChatTemplate,
) -> Prompts:
    """Return the prompts of the rows of a data set.

    Args:
        data: JSON lines of chat rows of the form `sft`.
        entry: of the data set in the configuration: `max_lost_rows` and `on_special`.
        recipe: the recipe; a prompt and `max_completion_length` must fit into `max_length`.
        base: model folder with the tokenizer.
        template: the chat template.

    Raises:
        InputError: a row that is not usable, or too many rows that are left out.
    """
    losses, row_count, kept = Losses(), 0, []
    checks = RowChecks("sft", entry, {"sequence_len": recipe["max_length"]}, base)
    encoder = Encoder(base, template)
    room = recipe["max_length"] - recipe["max_completion_length"]
    for location, row in stage_rows(data, "sft", {"id", "conversation"}, with_tools=True):
        row_count += 1
        where = f"{data}, {location}, row '{row['id']}'"
        try:
            checks.check_special(row, f"{data}, {location}")
            prompt = _last_turn(encoder.encode(row, where))
            if len(prompt.prompt) > room:
                problem = f"a prompt of {len(prompt.prompt):,} tokens, the recipe leaves {room:,}"
                raise RowError(TOO_LONG, f"{where}: {problem}")
        except RowError as error:
            losses.lose(error)
        else:
            kept.append(prompt)
    check_losses(losses, data, row_count, entry, checks)
    return Prompts(kept, row_count, losses)


def _last_turn(encoded: Encoded) -> Prompt:
    """Return the last run of labelled tokens, and all tokens before it."""
    end = len(encoded.labels)
    while encoded.labels[end - 1] == IGNORED:
        end -= 1
    start = end
    while start and encoded.labels[start - 1] != IGNORED:
        start -= 1
    return Prompt(encoded.input_ids[:start], encoded.input_ids[start:end])


def write_prompts(prompts: Iterable[Prompt], path: Path) -> None:
    """Write prompts as JSON lines."""
    with atomic_file(path) as partial, open(partial, "w", encoding="utf-8") as opened:
        opened.writelines(json.dumps(asdict(prompt)) + "\n" for prompt in prompts)


def load_prompts(path: Path) -> list[Prompt]:
    """Return the prompts of a file that `write_prompts` made."""
    return [Prompt(**record.value) for record in read_records(path, empty=True)]


def check_batch(prompts: Sequence[Prompt], batch: int, where: str) -> None:
    """Raise `InputError` where the prompts do not fill a batch: TRL leaves out one that is short.

    Args:
        prompts: those that are left to train on.
        batch: prompts of an optimizer step.
        where: the data, for the message.
    """
    if len(prompts) < batch:
        raise InputError(
            f"{where}: {len(prompts):,} prompts to train on, expected a step's {batch:,} or more"
        )
