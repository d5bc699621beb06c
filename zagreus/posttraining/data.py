"""The rows that a stage trains on: checked and counted before the training.

Axolotl leaves out rows that are longer than `sequence_len` and says so in its log alone. Here they
are left out before, so that manifest and model card know them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zagreus.atomic import atomic_file
from zagreus.errors import InputError
from zagreus.losses import MAX_LOST_ROWS, Losses
from zagreus.posttraining.chatml import TURN_END, TURN_START
from zagreus.posttraining.lengths import Lengths, special_tokens
from zagreus.posttraining.preferences import Preference, PreferenceEncoder
from zagreus.posttraining.recipe_file import validation_rows
from zagreus.posttraining.templates import ChatTemplate
from zagreus.posttraining.turns import Encoded, Encoder
from zagreus.records import RowError, read_records

# Axolotl finds a reply by rendering it after a placeholder and searching for its text: a reply
# whose text occurs in what stands before it ("user", "a", a bracket) is cut out at the wrong place.
PLACEHOLDER = f"{TURN_START}user\n[[dummy_message]]{TURN_END}\n{TURN_START}assistant\n"
SEQUENCE_LEN = 512  # Axolotl's, where a recipe has none
TOO_LONG = "longer than sequence_len"


@dataclass(frozen=True)
class Selection:
    """The rows of a stage."""

    path: Path
    """JSON lines of the rows that Axolotl reads."""
    row_count: int
    """Rows of the data set."""
    kept: int
    """Rows that Axolotl reads, validation rows included."""
    validation: int
    """Rows that Axolotl holds out for validation (`val_set_size`)."""
    lost: dict[str, int]
    """Rows that are left out, by reason."""
    note: str | None = None
    """One line about the rows left out; None where no row is."""

    def facts(self) -> dict[str, Any]:
        """Return the counts for the manifest; `rows` are those that the weights are trained on."""
        return {
            "rows_given": self.row_count,
            "rows": self.kept - self.validation,
            "rows_validation": self.validation,
            "rows_lost": self.lost,
        }


def check_stage(stage: str, recipe: Mapping[str, Any]) -> set[str]:
    """Return the keys of the stage's rows.

    Raise `InputError` where the recipe is for another stage.

    Args:
        stage: `sft` (rows with `conversation`) or `dpo` (rows with `messages`, `chosen`,
            `rejected`).
        recipe: the recipe, whose `rl` and `field_...` must fit the stage and the rows.
    """
    if (recipe.get("rl") == "dpo") != (stage == "dpo"):
        raise InputError(
            f"stage '{stage}': the recipe has rl: {recipe.get('rl')}, expected "
            f"{'dpo' if stage == 'dpo' else 'none'}"
        )
    needed = {"id", "messages", "chosen", "rejected"} if stage == "dpo" else {"id", "conversation"}
    fields = {
        value
        for dataset in recipe["datasets"]
        for key, value in dataset.items()
        if key.startswith("field_")
    }
    if not fields <= needed:
        raise InputError(
            f"stage '{stage}': the recipe names the fields {sorted(fields)}, chat rows have "
            f"{sorted(needed)}"
        )
    return needed


def select_rows(
    data: Path,
    entry: Mapping[str, Any],
    stage: str,
    recipe: Mapping[str, Any],
    base: Path,
    selected: Path | None,
) -> Selection:
    """Return the rows that the stage trains on, without those that cannot be trained on as meant.

    Args:
        data: JSON lines of chat rows.
        entry: of the data set in the configuration: `max_lost_rows` and `on_special`.
        stage: `sft` or `dpo`.
        recipe: the recipe.
        base: model folder with the tokenizer that the rows are tokenized with.
        selected: where the rows go if some are left out; None writes nothing.

    Raises:
        InputError: rows of the other stage, text with a special token, too many rows left out, or
            too few for training.
    """
    needed = check_stage(stage, recipe)
    losses, kept, row_count, columns = Losses(), [], 0, False
    checks = RowChecks(stage, entry, recipe, base)
    for location, row in stage_rows(data, stage, needed):
        row_count += 1
        try:
            checks.check(row, f"{data}, {location}")
        except RowError as error:
            losses.lose(error)
        else:
            kept.append(row_count)
        columns = columns or "columns" in row
    if not row_count:
        raise InputError(f"{data}: no rows, expected rows for {stage}")
    check_losses(losses, data, row_count, entry, checks)
    validation = validation_rows(recipe.get("val_set_size"), len(kept), str(data))
    _check_batch(recipe, len(kept) - validation, data)
    counts = (row_count, len(kept), validation, losses.by_reason())
    if not losses.total and columns and selected is not None:
        _write(data, selected, set(kept))  # Axolotl gets no columns of ours
        return Selection(selected, *counts)
    if not losses.total:
        cut = f"{data}: Axolotl cuts {checks.cut:,} of {row_count:,} rows off at sequence_len"
        return Selection(data, *counts, cut if checks.cut else None)
    note = f"{losses.total:,} of {row_count:,} rows left out: {losses}; the first: {losses.first}"
    if selected is not None:
        _write(data, selected, set(kept))
    return Selection(selected or data, *counts, f"{data}: {note}")


def select_turns(
    stage: str,
    data: Path,
    entry: Mapping[str, Any],
    recipe: Mapping[str, Any],
    base: Path,
    template: ChatTemplate,
    selected: Path | None,
) -> Selection:
    """Write the rows of a stage by a chat template.

    SFT rows as tokens and labels, DPO rows as the texts of a prompt and two replies.

    Args: as `select_rows`; the labels of each row are checked (`Encoder.encode`,
        `PreferenceEncoder.encode`).

    Raises:
        InputError: as `select_rows`, and where the template does not fit the rows.
    """
    trained = {
        tuple(dataset.get("roles_to_train", ["assistant"])) for dataset in recipe["datasets"]
    }
    ends = {dataset.get("train_on_eos", "turn") for dataset in recipe["datasets"]}
    if trained != {("assistant",)} or ends != {"turn"}:
        problem = f"roles_to_train {sorted(trained)}, train_on_eos {sorted(ends)}"
        raise InputError(f"template: {problem}; expected [assistant] and turn")
    losses, row_count = Losses(), 0
    kept: list[Encoded | Preference] = []
    checks = RowChecks(stage, entry, recipe, base)
    encoder: Encoder | PreferenceEncoder = (
        PreferenceEncoder(base, template, recipe) if stage == "dpo" else Encoder(base, template)
    )
    needed = check_stage(stage, recipe)
    for location, row in stage_rows(data, stage, needed, with_tools=stage == "sft"):
        row_count += 1
        try:
            checks.check_special(row, f"{data}, {location}")
            encoded = encoder.encode(row, f"{data}, {location}, row '{row['id']}'")
            checks.check_length(len(encoded), row, f"{data}, {location}")
        except RowError as error:
            losses.lose(error)
        else:
            kept.append(encoded)
    if not row_count:
        raise InputError(f"{data}: no rows, expected rows for {stage}")
    check_losses(losses, data, row_count, entry, checks)
    validation = validation_rows(recipe.get("val_set_size"), len(kept), str(data))
    _check_batch(recipe, len(kept) - validation, data)
    if selected is not None:
        with atomic_file(selected) as partial, open(partial, "w", encoding="utf-8") as opened:
            opened.writelines(json.dumps(encoded.as_row()) + "\n" for encoded in kept)
    note = f"{losses.total:,} of {row_count:,} rows left out: {losses}; the first: {losses.first}"
    return Selection(
        selected or data,
        row_count,
        len(kept),
        validation,
        losses.by_reason(),
        f"{data}: {note}" if losses.total else None,
    )


def _check_batch(recipe: Mapping[str, Any], rows: int, data: Path) -> None:
    """Raise `InputError` where packed rows do not fill a batch: Axolotl leaves out the last one."""
    batch = recipe.get("micro_batch_size", 1)
    if recipe.get("sample_packing") and isinstance(batch, int) and rows < batch:
        problem = f"{rows:,} rows to train on"
        raise InputError(f"{data}: {problem}, expected micro_batch_size ({batch:,}) or more")


class RowChecks:
    """What a row must pass.

    Args: as `select_rows`.
    """

    def __init__(
        self,
        stage: str,
        entry: Mapping[str, Any],
        recipe: Mapping[str, Any],
        base: Path,
    ) -> None:
        self.stage = stage
        self.special = special_tokens(base, recipe)
        self.drop_special = entry.get("on_special", "error") == "drop"
        self.lengths = Lengths(base)
        length = recipe.get("sequence_len", SEQUENCE_LEN)
        if isinstance(length, bool) or not isinstance(length, int) or length < 1:
            raise InputError(f"sequence_len: found {length}, expected a whole number of tokens")
        self.sequence_len = length
        self.excess = recipe.get("excess_length_strategy") or "drop"
        self.longest = self.cut = 0

    def check(self, row: Mapping[str, Any], where: str) -> None:
        """Raise `RowError` for a row that is left out, `InputError` for one that ends the stage."""
        self.check_special(row, where)
        for side in ("chosen", "rejected") if self.stage == "dpo" else ():
            text = row[side]["content"]
            if text.strip() in PLACEHOLDER:
                problem = f"{side} is '{text}', too short for Axolotl to find it again"
                raise RowError("reply too short", f"{where}: {problem}")
        self.check_length(self.lengths.longest(row, self.stage, self.sequence_len), row, where)

    def check_length(self, length: int, row: Mapping[str, Any], where: str) -> None:
        """Raise an error as `check` does where a row is longer than a sequence."""
        self.longest = max(self.longest, length)
        if length <= self.sequence_len:
            return
        problem = f"{length:,} tokens, more than the recipe's sequence_len of {self.sequence_len:,}"
        message = f"{where}, row '{row['id']}': {problem}"
        if self.excess == "truncate":  # by Axolotl
            self.cut += 1
        elif self.excess == "raise":
            raise InputError(f"{message}; excess_length_strategy: drop leaves such rows out")
        else:
            raise RowError(TOO_LONG, message)

    def check_special(self, row: Mapping[str, Any], where: str) -> None:
        """Raise an error as `check` does where a text holds a special token."""
        for part, text in texts(row):
            token = next((token for token in self.special if token in text), None)
            if token is None:
                continue
            problem = f"{part} contains {token}, which the tokenizer reads as a special token"
            message = f"{where}, row '{row['id']}': {problem}"
            if self.drop_special:
                raise RowError("special token in a text", message)
            remedy = "`on_special: drop` of the chat entry leaves such rows out"
            raise InputError(f"{message}; {remedy}")


def texts(row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (what it is, text) of each message of a chat row."""
    for message in row.get("conversation") or row["messages"]:
        yield f"a message of role '{message['role']}'", message["content"]
        if message.get("tool_calls"):
            yield "a tool call", json.dumps(message["tool_calls"], ensure_ascii=False)
    if row.get("tools"):
        yield "a tool", json.dumps(row["tools"], ensure_ascii=False)
    for side in ("chosen", "rejected"):
        if side in row:
            yield side, row[side]["content"]


def stage_rows(
    path: Path, stage: str, needed: set[str], with_tools: bool = False
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (place, row); raise `InputError` for a row of another form."""
    for record in read_records(path, empty=True):
        row = record.value
        where = f"{path}, {record.location}"
        calls_tools = "tools" in row or any(
            isinstance(message, Mapping)
            and ("tool_calls" in message or message.get("role") == "tool")
            for message in row.get("conversation") or row.get("messages") or ()
        )
        if calls_tools and not with_tools:
            remedy = "`template: hermes` or `llama3` of the stage renders them"
            raise InputError(f"{where}: a row with tools; {remedy}")
        if set(row) - {"tools", "columns"} != needed:
            expected = f"stage '{stage}' needs {sorted(needed)}"
            raise InputError(f"{where}: keys {sorted(row)}, {expected}")
        try:
            whole = all(isinstance(text, str) for _, text in texts(row))
        except (KeyError, TypeError):
            whole = False
        if not whole or not isinstance(row["id"], str):
            raise InputError(f"{where}: not a chat row (docs/architecture.md, Chat rows)")
        yield record.location, row


def check_losses(
    losses: Losses,
    data: Path,
    row_count: int,
    entry: Mapping[str, Any],
    checks: RowChecks,
) -> None:
    """Raise `InputError` where more rows are left out than the chat entry allows, or all."""
    remedy = "max_lost_rows of the chat entry allows more"
    if TOO_LONG in losses.counts:
        detail = f"now {checks.sequence_len:,}; the longest row has {checks.longest:,} tokens"
        remedy = f"a larger sequence_len ({detail}) keeps rows, and {remedy}"
    limit = entry.get("max_lost_rows", MAX_LOST_ROWS)
    losses.check(str(data), row_count, limit, remedy)
    if losses.total == row_count:
        losses.check(str(data), row_count, 0, "no row is left to train on")


def _write(data: Path, selected: Path, kept: set[int]) -> None:
    """Write the rows of those numbers (from 1)."""
    with atomic_file(selected) as partial, open(partial, "w", encoding="utf-8") as opened:
        for number, record in enumerate(read_records(data), 1):
            if number in kept:
                row = {key: value for key, value in record.value.items() if key != "columns"}
                opened.write(json.dumps(row, ensure_ascii=False) + "\n")
