"""Questions and answers as text, from parquet files of the published layouts."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from zagreus.data.questions import read_questions
from zagreus.data.sources import Task, fetch_folder
from zagreus.losses import Losses

LABELLED = {"text": ["Rome", "Milan"], "label": ["1", "2"]}
LAYOUTS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "MMLU": (
        {"question": "Capital? ", "subject": "x", "choices": ["Milan", "Rome"], "answer": 1},
        {"question": "question", "choices": "choices", "answer": "answer"},
        "Capital?\nA. Milan\nB. Rome\nAnswer: B. Rome",
    ),
    "ARC": (
        {"id": "M_1", "question": "Capital?", "choices": LABELLED, "answerKey": "2"},
        {"question": "question", "choices": "choices", "answer": "answerKey"},
        "Capital?\nA. Rome\nB. Milan\nAnswer: B. Milan",
    ),
    "OpenBookQA": (
        {
            "id": "7-980",
            "question_stem": "The sun",
            "choices": {"text": ["shines", "rains"], "label": ["A", "B"]},
            "answerKey": "A",
        },
        {"question": "question_stem", "choices": "choices", "answer": "answerKey"},
        "The sun\nA. shines\nB. rains\nAnswer: A. shines",
    ),
    "SciQ": (
        {
            "question": "Water is?",
            "distractor1": "gas",
            "distractor2": "dry",
            "correct_answer": "wet",
            "support": "Water is wet.",
        },
        {
            "question": "question",
            "choices": ["correct_answer", "distractor1", "distractor2"],
            "context": "support",
        },
        "Water is wet.\n\nWater is?\nA. wet\nB. gas\nC. dry\nAnswer: A. wet",
    ),
    "pinocchio": (
        {
            "question": "Capitale?",
            "options": [{"key": "A", "value": "Milano"}, {"key": "B", "value": "Roma"}],
            "answer": "B",
        },
        {
            "question": "question",
            "choices": "options",
            "answer": "answer",
            "answer_label": "Risposta",
        },
        "Capitale?\nA. Milano\nB. Roma\nRisposta: B. Roma",
    ),
    "question and answer": (
        {"q": "Chi?", "a": "Io."},
        {"question": "q", "answer": "a"},
        "Chi?\nAnswer: Io.",
    ),
}


def read(path: Path, rows: list[dict[str, Any]], form: dict[str, Any]) -> tuple[list, Losses]:
    pq.write_table(pa.Table.from_pylist(rows), path)
    losses, texts = Losses(), []
    for documents, _ in read_questions(path, "x.parquet", form, None, losses):
        texts += zip(documents.ids.to_pylist(), documents.texts.to_pylist(), strict=True)
    return texts, losses


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts(tmp_path: Path, name: str) -> None:
    row, form, expected = LAYOUTS[name]
    texts, losses = read(tmp_path / "x.parquet", [row, row], form)
    assert texts == [("x.parquet#0", expected), ("x.parquet#1", expected)] and not losses.total


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"question": " "}, "empty question"),
        ({"question": None}, "empty question"),
        ({"choices": ["one"]}, "no choices"),
        ({"choices": None}, "no choices"),
        ({"choices": ["Rome", ""]}, "empty choice"),
        ({"answer": 2}, "answer not among the choices"),
        ({"answer": -1}, "answer not among the choices"),
        ({"answer": None}, "answer not among the choices"),
    ],
)
def test_rows_that_are_no_questions(tmp_path: Path, change: dict, reason: str) -> None:
    row, form, expected = LAYOUTS["MMLU"]
    texts, losses = read(tmp_path / "x.parquet", [row, {**row, **change}, row], form)
    assert [text for _, text in texts] == [expected, expected]
    assert texts[1][0] == "x.parquet#2" and losses.by_reason() == {reason: 1}


def test_the_right_answer_of_columns_has_every_letter(tmp_path: Path) -> None:
    row, form, _ = LAYOUTS["SciQ"]
    rows = [{**row, "question": "Is it" + "!" * number} for number in range(30)]
    texts, _ = read(tmp_path / "x.parquet", rows, form)
    letters = [text.rsplit("Answer: ", 1)[1] for _, text in texts]
    assert set(letters) == {"A. wet", "B. wet", "C. wet"}


def test_a_source(tmp_path: Path) -> None:
    row, form, expected = LAYOUTS["ARC"]
    (tmp_path / "in").mkdir()
    rows = [{**row, "id": f"q{number}"} for number in range(4)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "in" / "a.parquet")
    entry = {"language": "eng", "kind": "local", "folder": str(tmp_path / "in"), "tasks": 1}
    entry |= {"heldout": 0, "id_column": "id", "questions": form}
    fetch_folder(Task("arc", entry, 0, tmp_path / "out" / "00000.json"))
    table = pq.read_table(tmp_path / "out" / "00000.parquet")
    assert table.column("id").to_pylist() == ["q0", "q1", "q2", "q3"]
    assert set(table.column("text").to_pylist()) == {expected}
