"""Which items a task can score.

Decided once, before any request is made and before a model is loaded.

lm-eval asks every item, whatever the item holds: a null becomes the word None, a gold that is none
of the choices is never right, one choice is always right, and an empty choice or a missing label
ends the whole suite with an exception. Here such items are set aside and counted. docs/inputs.md
lists them.
"""

from __future__ import annotations

import math
import random
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import datasets
import jinja2
import jinja2.meta
import lm_eval.utils
import pyarrow
from lm_eval.api.task import ConfigurableTask, TaskConfig
from lm_eval.defaults import DEFAULT_RANDOM_SEED

from zagreus.errors import InputError
from zagreus.evaluation.files import MAX_LOST_ROWS, reasons
from zagreus.evaluation.items import first_line

# A row that fails is looked for by halves, with a preparation and a bar of progress each.
datasets.disable_progress_bars()

Document = Mapping[str, Any]

# Keys of a task file whose templates make the prompt.
PROMPT = ("description", "doc_to_text", "gen_prefix")
_LETTER = re.compile(r"\s*[A-Za-z]\s*")


class MissingColumn(Exception):
    """The task needs a column that the data do not have; the message is the library's own."""


class Unscorable(Exception):
    """An item cannot be scored; the message is the reason, the same for all items of a kind."""


@dataclass
class Scorable:
    """The rows of a split that a task can score.

    Attributes:
        table: the rows.
        places: of each row its place in the whole split.
        set_aside: how many rows cannot be scored, by reason.
        read: how many answers were read in another case (`a` as `A`).
        counted: whether every row was looked at; where too many fail, the others are not.
    """

    table: pyarrow.Table
    places: list[int]
    set_aside: Counter[str] = field(default_factory=Counter)
    read: int = 0
    counted: bool = True


def scorable(config: Mapping[str, Any], table: pyarrow.Table, scored: bool, room: int) -> Scorable:
    """Return the rows that a task can score, or give as examples.

    Args:
        config: of the lm-eval task.
        table: the rows of one split.
        scored: whether the rows are questions, and not examples before a question.
        room: how many rows may be lost; preparing stops when more are, with those found so far.
    """
    probe = Probe(config, table.column_names)
    prepared, failed = _prepare(probe, table, room)
    counted = bool(prepared) or len(failed) == table.num_rows
    problems: dict[int, str] = dict(failed)
    for index, document in prepared:
        reason = probe.problem(document, scored)
        if reason:
            problems[index] = reason
    changed = {}
    if len(problems) <= max(room, 100):
        changed = _read_letters(probe, table, sorted(problems), scored)
    kept = [index for index in range(table.num_rows) if index not in problems or index in changed]
    rest = table.take(pyarrow.array(kept, pyarrow.int64()))
    if changed:
        rest = _replaced(rest, {kept.index(index): row for index, row in changed.items()})
    set_aside = Counter(reason for index, reason in problems.items() if index not in changed)
    return Scorable(rest, kept, set_aside, len(changed), counted)


def check_share(name: str, where: str, usable: Scorable, rows: int, limit: float | None) -> None:
    """Raise `InputError` where too many rows cannot be scored, or none can.

    Args:
        name: the task.
        where: the data file.
        usable: what can be scored.
        rows: of the split, in all.
        limit: share of them that may be set aside; MAX_LOST_ROWS where it is None.
    """
    limit = MAX_LOST_ROWS if limit is None else limit
    count = sum(usable.set_aside.values())
    if count and (count > limit * rows or not usable.places):
        at_least = "" if usable.counted else "at least "
        raise InputError(
            f"{where}: task '{name}' cannot score {at_least}{count} of {rows} items "
            f"({reasons(usable.set_aside)}),"
            f" expected at most {limit:.3g} of them ('max_lost_rows' of the evaluation data)"
        )


class Probe(ConfigurableTask):
    """A task that says of one document what lm-eval would make of the document.

    Nothing is loaded or examined for it.
    """

    def __init__(self, config: Mapping[str, Any], columns: Sequence[str]) -> None:
        self._config = TaskConfig(
            **{key: value for key, value in config.items() if key != "custom_dataset"}
        )
        self.prompt = None
        self.features = list(columns)

    def problem(self, document: Document, scored: bool) -> str | None:
        """Return why a document cannot be scored, None where it can."""
        try:
            self._check(document, scored)
        except Unscorable as error:
            return str(error)
        except InputError as error:
            return str(error)
        except MissingColumn:
            raise
        except Exception as error:  # a task's own functions raise whatever they like
            return f"the task fails on the item: {_kind(error)}"
        return None

    def _check(self, document: Document, scored: bool) -> None:
        text = self._prompt(document)
        if self.config.output_type == "multiple_choice":
            self._check_choices(document, text)
        elif self.config.output_type == "loglikelihood_rolling":
            self._check_document(document)
        else:
            self._check_target(self._target(document))
        if (
            scored
            and callable(self.config.process_results)
            and self.config.output_type == "generate_until"
        ):
            self._check_results(document)

    def _prompt(self, document: Document) -> Any:
        """Return the question, as lm-eval makes it.

        Raise `Unscorable` where the prompt shows a null or is empty.
        """
        text: Any = ""
        for key in PROMPT:
            template = getattr(self.config, key, None)
            if template is None or callable(template) or isinstance(template, int):
                continue
            if key != "description" and template in self.features:
                value = document[template]
                _refuse_null(value, "the question is null")
            else:
                value = _render(template, document, "a null in the question")
            if key == "doc_to_text":
                text = value
                if template and isinstance(value, str) and not value.strip():
                    raise Unscorable("the question is empty")
                if (
                    template not in self.features
                    and isinstance(value, str)
                    and self.config.doc_to_choice is not None
                    and value.strip().isdigit()
                ):
                    raise Unscorable(
                        "the question is a bare number, which lm-eval takes for the place of a "
                        "choice"
                    )
        if callable(self.config.doc_to_text):
            text = self.doc_to_text(document)
            _refuse_null(text, "the question is null")
        kinds = (str, int) if self.config.output_type == "multiple_choice" else (str,)
        if not isinstance(text, kinds):
            raise Unscorable("the question is not text")
        return text

    def _target(self, document: Document) -> Any:
        template = self.config.doc_to_target
        if isinstance(template, str) and template not in self.features:
            for column in _variables(template) & set(document):
                _refuse_null(document[column], "no gold")
        try:
            target = self.doc_to_target(document)
        except (
            jinja2.TemplateError,
            ValueError,
            KeyError,
            IndexError,
            SyntaxError,
            TypeError,
        ) as error:
            _raise_missing(error, document)
            raise Unscorable(f"the gold cannot be read: {_kind(error)}") from None
        _refuse_null(target, "no gold")
        return target

    def _check_target(self, target: Any) -> None:
        if isinstance(target, str) and not target.strip():
            raise Unscorable("no gold")

    def _check_document(self, document: Document) -> None:
        text = self._target(document)
        if not isinstance(text, str) or not text.strip():
            raise Unscorable("no text")
        for column in ("bytes", "unigram_bits"):
            value = document.get(column, 1)
            if not isinstance(value, int | float) or not 0 < value < math.inf:
                raise Unscorable(f"'{column}' is not a number above 0")

    def _check_choices(self, document: Document, text: Any) -> None:
        choices = self._choices(document)
        gold: Any = text if isinstance(text, int) else self._target(document)
        if isinstance(gold, bool):
            gold = int(gold)
        if isinstance(gold, str):
            if gold not in choices:
                match = re.fullmatch(r"-?\d+", gold)
                raise Unscorable(
                    "the gold is beyond the choices" if match else "the gold is none of the choices"
                )
            gold = choices.index(gold)
        if not isinstance(gold, int):
            raise Unscorable(
                f"the gold is of the type {type(gold).__name__}, expected a choice or its place"
            )
        if not 0 <= gold < len(choices):
            raise Unscorable("the gold is beyond the choices")
        right = choices[gold].strip()
        if sum(choice.strip() == right for choice in choices) > 1:
            raise Unscorable("the right choice stands there twice")

    def _choices(self, document: Document) -> list[str]:
        try:
            choices = self.doc_to_choice(document)
        except (
            jinja2.TemplateError,
            ValueError,
            KeyError,
            IndexError,
            SyntaxError,
            TypeError,
        ) as error:
            _raise_missing(error, document)
            raise Unscorable(f"the choices cannot be read: {_kind(error)}") from None
        if not isinstance(choices, list | tuple):
            raise Unscorable("the choices are not a list")
        for choice in choices:
            _refuse_null(choice, "a choice is null")
            if not isinstance(choice, str):
                raise Unscorable("a choice is not text")
            if not choice.strip():
                raise Unscorable("a choice is empty")
        if len(choices) < 2:
            raise Unscorable("one choice only" if choices else "no choices")
        return list(choices)

    def _check_results(self, document: Document) -> None:
        """Judge an empty answer as the task does.

        What is missing for judging is missing for any answer.
        """
        random.seed(DEFAULT_RANDOM_SEED)  # IFEval's checkers draw numbers
        try:
            values = self.config.process_results(document, [""])
        except InputError:
            raise
        except Exception as error:
            _raise_missing(error, document)
            raise Unscorable(f"an answer cannot be judged: {_kind(error)}") from None
        parts = [
            part
            for value in values.values()
            for part in (value if isinstance(value, tuple) else (value,))
        ]
        if any(isinstance(part, float) and math.isnan(part) for part in parts):
            raise Unscorable("an answer cannot be judged: the score is no number")


def _prepare(
    probe: Probe, table: pyarrow.Table, room: int
) -> tuple[list[tuple[int, Document]], dict[int, str]]:
    """Return the documents that the task makes of the rows, with the rows' places, and why other
    rows fail.
    """
    process: Callable[[datasets.Dataset], datasets.Dataset] | None = probe.config.process_docs
    if process is None:
        return list(enumerate(datasets.Dataset(table))), {}
    try:
        failed = _failing_rows(process, table)
    except AttributeError:
        failed = _failing_by_halves(process, table, room)
    kept = [index for index in range(table.num_rows) if index not in failed]
    if not kept or len(failed) > max(room, 100):
        return [], failed
    try:
        made = process(datasets.Dataset(table.take(pyarrow.array(kept, pyarrow.int64()))))
    except Exception as error:
        problem = f"{type(error).__name__}: {first_line(error)}"
        raise InputError(
            f"task '{probe.config.task}' prepares each item, and not all together ({problem})"
        ) from None
    probe.features = list(made.features)
    if len(made) != len(kept):
        # The task drops rows of its own accord: a document's place in the split is not known.
        raise InputError(
            f"task '{probe.config.task}' makes {len(made)} documents of {len(kept)} rows, "
            "expected one of each"
        )
    return list(zip(kept, made, strict=True)), failed


class _RowByRow:
    """Stands for a data set whose task prepares every row by itself (`map`), and keeps the rows on
    which that fails.
    """

    def __init__(self, table: pyarrow.Table) -> None:
        self._rows, self._columns = datasets.Dataset(table), table.column_names
        self.failed: dict[int, str] = {}

    def map(self, function: Callable[[dict[str, Any]], Any]) -> _RowByRow:
        for index, row in enumerate(self._rows):
            try:
                function(row)
            except Exception as error:
                _raise_missing(error, self._columns)
                self.failed[index] = f"the task cannot prepare the item: {_kind(error)}"
        return self


def _failing_rows(process: Callable[[Any], Any], table: pyarrow.Table) -> dict[int, str]:
    """Return why a task cannot prepare rows, by place.

    Raise `AttributeError` where the task does not prepare them one by one.
    """
    rows = _RowByRow(table)
    try:
        made = process(rows)
    except TypeError as error:  # more arguments than a function
        raise AttributeError(str(error)) from None
    if made is not rows:
        raise AttributeError("more than one preparation")
    return rows.failed


def _failing_by_halves(
    process: Callable[[datasets.Dataset], datasets.Dataset], table: pyarrow.Table, room: int
) -> dict[int, str]:
    """Return the same where a task prepares its rows in another way.

    It ends where more rows than `room` fail.
    """
    failed: dict[int, str] = {}
    parts = [(0, table.num_rows)]
    while parts:
        start, length = parts.pop()
        problem = _problem(process, table.slice(start, length)) if length else None
        if problem is None:
            continue
        if length == 1:
            failed[start] = problem
            if len(failed) > max(room, 100):
                break  # too many: how many more there are changes nothing
            continue
        half = length // 2
        parts += [(start + half, length - half), (start, half)]
    return failed


def _problem(
    process: Callable[[datasets.Dataset], datasets.Dataset], rows: pyarrow.Table
) -> str | None:
    """Return why a task cannot prepare the rows, None where it can."""
    try:
        # Arrow makes one table of what is returned; its columns must be of one type in all rows.
        process(datasets.Dataset(rows))
    except Exception as error:
        _raise_missing(error, rows.column_names)
        return f"the task cannot prepare the item: {_kind(error)}"
    return None


def _read_letters(
    probe: Probe, table: pyarrow.Table, places: Sequence[int], scored: bool
) -> dict[int, dict[str, Any]]:
    """Return, by place, rows that can be scored once one letter is read as a capital.

    The answer `a` or `A `.

    A row of which two columns could be read so is ambiguous, and stays as it is.
    """
    read = {}
    for index in places:
        row = table.slice(index, 1).to_pylist()[0]
        letters = {
            name: value
            for name, value in row.items()
            if isinstance(value, str) and _LETTER.fullmatch(value)
        }
        changes = [
            {**row, name: value.strip().upper()}
            for name, value in letters.items()
            if value != value.strip().upper()
        ]
        possible = [change for change in changes if _fits(probe, table.schema, change, scored)]
        if len(possible) == 1:
            read[index] = possible[0]
    return read


def _fits(probe: Probe, schema: pyarrow.Schema, row: dict[str, Any], scored: bool) -> bool:
    table = pyarrow.Table.from_pylist([row], schema=schema)
    prepared, _ = _prepare(probe, table, 0)
    return bool(prepared) and probe.problem(prepared[0][1], scored) is None


def _replaced(table: pyarrow.Table, rows: Mapping[int, dict[str, Any]]) -> pyarrow.Table:
    parts = []
    start = 0
    for index in sorted(rows):
        parts += [
            table.slice(start, index - start),
            pyarrow.Table.from_pylist([rows[index]], schema=table.schema),
        ]
        start = index + 1
    return pyarrow.concat_tables([*parts, table.slice(start)])


def _finalize(value: Any) -> Any:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        raise _Null
    return value


class _Null(Exception):
    """A template shows a null."""


# lm-eval's templates, but a null is an error and not the word None.
_STRICT = lm_eval.utils.env.overlay(finalize=_finalize)
_compiled: dict[str, jinja2.Template] = {}


def _render(template: str, document: Document, reason: str) -> str:
    if template not in _compiled:
        _compiled[template] = _STRICT.from_string(template)
    try:
        return _compiled[template].render(**document)
    except _Null:
        raise Unscorable(reason) from None
    except (jinja2.TemplateError, TypeError, ValueError, IndexError, KeyError) as error:
        _raise_missing(error, document)
        raise Unscorable(f"the question cannot be made: {_kind(error)}") from None


def _raise_missing(error: BaseException, columns: Mapping[str, Any] | Sequence[str]) -> None:
    """Raise `MissingColumn` where an exception is about a column that is not there at all."""
    named = (
        re.match(r"'(\w+)' is undefined", str(error))
        if isinstance(error, jinja2.UndefinedError)
        else None
    )
    name = (
        named[1] if named else error.args[0] if isinstance(error, KeyError) and error.args else None
    )
    if isinstance(name, str) and name.isidentifier() and name not in columns:
        raise MissingColumn(str(error)) from None


def _variables(template: str) -> set[str]:
    return jinja2.meta.find_undeclared_variables(lm_eval.utils.env.parse(template))


def _refuse_null(value: Any, reason: str) -> None:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        raise Unscorable(reason)


def _kind(error: BaseException) -> str:
    """Return an exception's kind and the beginning of its text, on one line, without an item's own
    values.
    """
    text = re.sub(r"'[^']*'|\"[^\"]*\"|\d+", "...", first_line(error))
    return f"{type(error).__name__} ({text[:60]})"
