"""Questions with answers to choose from -> text, for training on knowledge.

Read are the layouts of MMLU (a list of texts and a number), ARC and OpenBookQA (texts and labels),
SciQ (a column for each choice) and pinocchio (a list of key and value).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from zagreus.data.parquet import Documents, open_parquet
from zagreus.losses import Losses
from zagreus.records import RowError, shortened

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def read_questions(
    path: Path,
    name: str,
    form: Mapping[str, Any],
    id_column: str | None,
    losses: Losses,
) -> Iterator[tuple[Documents, int]]:
    """Yield the questions of a parquet file as documents, with the rows that they were read from.

    Args:
        path: the file.
        name: the file's name for messages and for ids.
        form: `question`, `choices` (one column, or several whose first is the right answer),
            `answer`, `context` and `answer_label` (the word before the answer).
        id_column: the column of the document's name; `NAME#ROW` without one, the row from 0.
        losses: counts the rows that are no question.

    Raises:
        InputError: as `open_parquet`.
    """
    with open_parquet(path, name, columns_of(form, id_column)) as reader:
        row = 0
        for batch in reader.batches():
            ids, texts, records = [], [], batch.to_pylist()
            for record in records:
                try:
                    texts.append(as_text(record, form, f"{name}: row {row}"))
                    value = record[id_column] if id_column else None
                    ids.append(f"{name}#{row}" if value in (None, "") else str(value))
                except RowError as error:
                    losses.lose(error)
                row += 1
            yield Documents(pa.array(ids, pa.string()), pa.array(texts, pa.string())), len(records)


def columns_of(form: Mapping[str, Any], id_column: str | None = None) -> list[str]:
    """Return the columns that a form of questions reads, each once."""
    choices = form.get("choices", [])
    named = [form["question"], *([choices] if isinstance(choices, str) else choices)]
    named += [form[key] for key in ("answer", "context") if key in form]
    return list(dict.fromkeys([*named, *([id_column] if id_column else [])]))


def as_text(record: Mapping[str, Any], form: Mapping[str, Any], where: str) -> str:
    """Return a question as text: its context, itself, its choices by letter, and the answer.

    Raises:
        RowError: no question, fewer than two choices, an empty one, or no answer among them.
    """
    question = _text(record[form["question"]], "question", where)
    label = form.get("answer_label", "Answer")
    lines = [question]
    if "context" in form and str(record[form["context"]] or "").strip():
        lines.insert(0, _text(record[form["context"]], "context", where) + "\n")
    if "choices" not in form:
        return "\n".join([*lines, f"{label}: {_text(record[form['answer']], 'answer', where)}"])
    labels, choices = _choices(record, form, where)
    answer_index = _answer_index(record, form, labels, choices, where)
    if not isinstance(form["choices"], str):  # the first column is the right answer
        answer_index = len(question.encode("utf-8")) % len(choices)
        choices.insert(answer_index, choices.pop(0))
    lines += [f"{LETTERS[number]}. {choice}" for number, choice in enumerate(choices)]
    return "\n".join([*lines, f"{label}: {LETTERS[answer_index]}. {choices[answer_index]}"])


def _choices(
    record: Mapping[str, Any], form: Mapping[str, Any], where: str
) -> tuple[list[str], list[str]]:
    """Return (the labels, the texts) of the choices."""
    if not isinstance(form["choices"], str):
        values = [record[column] for column in form["choices"]]
        labels = [str(number) for number in range(len(values))]
    else:
        values = record[form["choices"]]
        if isinstance(values, Mapping) and {"text", "label"} <= set(values):
            labels, values = list(values["label"] or ()), list(values["text"] or ())
        elif isinstance(values, list) and all(isinstance(value, Mapping) for value in values):
            labels = [value.get("key", value.get("label")) for value in values]
            values = [value.get("value", value.get("text")) for value in values]
        elif isinstance(values, list):
            labels = list(LETTERS[: len(values)])
        else:
            problem = f"choices {shortened(values)}, expected a list or texts and labels"
            raise RowError("no choices", f"{where}: {problem}")
    if not 2 <= len(values) <= len(LETTERS) or len(labels) != len(values):
        problem = f"{len(values)} choices with {len(labels)} labels, expected 2 to {len(LETTERS)}"
        raise RowError("no choices", f"{where}: {problem}")
    return [str(label).strip() for label in labels], [_text(v, "choice", where) for v in values]


def _answer_index(
    record: Mapping[str, Any],
    form: Mapping[str, Any],
    labels: list[str],
    choices: list[str],
    where: str,
) -> int:
    """Return which choice is the answer: a number from 0, a label, or the text itself."""
    if not isinstance(form["choices"], str):
        return 0
    answer = record[form["answer"]]
    if isinstance(answer, int) and not isinstance(answer, bool) and 0 <= answer < len(choices):
        return answer
    said = str(answer).strip()
    for known in (labels, choices):
        if isinstance(answer, str) and known.count(said) == 1:
            return known.index(said)
    problem = f"answer {shortened(answer)}, expected a number, a label or the text of a choice"
    raise RowError("answer not among the choices", f"{where}: {problem}")


def _text(value: Any, what: str, where: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise RowError(f"empty {what}", f"{where}: {what} {shortened(value)}, expected text")
    return value.strip()
