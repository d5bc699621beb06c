"""ITALIC on rows with the data set's own columns, scored by a small model."""

from __future__ import annotations

from pathlib import Path

import transformers
from small import make_data, make_model

from zagreus.evaluation.harness import load, read_suite, score
from zagreus.evaluation.scores import task_scores

ROWS = [
    ("Come si chiama la casa delle api?", ["alveare", "nido", "tana", "cuccia"], "A"),
    ("Quale verbo è al futuro?", ["andai", "andrò"], "B"),
    ("In che regione è Bari?", ["Puglia", "Lazio", "Molise", "Veneto", "Liguria"], "A"),
    ("Qual è il plurale di «uovo»?", ["uovi", "uova", "uove"], "B"),
]
TASK = {
    "name": "italic",
    "language": "ita",
    "recipe": "recipes/evaluate/italic.yaml",
    "data": "italic",
    "num_fewshot": 1,
}


def items(rows: list[tuple[str, list[str], str]], split: str) -> list[dict]:
    """Rows as the hub's parquet has them: each option a mapping of one letter."""
    return [
        {
            "id": f"{split}{number}",
            "category": "cultura",
            "question": question,
            "options": [{letter: text} for letter, text in zip("ABCDE", choices)],
            "answer": answer,
            "split": split,
        }
        for number, (question, choices, answer) in enumerate(rows)
    ]


def test_questions_of_two_to_five_choices(tmp_path: Path) -> None:
    make_data(tmp_path, "italic", [*items(ROWS, "test"), *items(ROWS[:1], "dev")])
    folder = make_model(tmp_path / "model", context=400).parent
    model = load(folder, transformers.AutoTokenizer.from_pretrained(folder), 4)
    ((task, results),) = score(model, read_suite([TASK], tmp_path))
    samples = results["samples"]["italic"]
    assert [len(sample["arguments"]) for sample in samples] == [4, 2, 5, 3]
    prompt, choice = samples[1]["arguments"][1]
    assert prompt == (
        "Le seguenti sono domande a scelta multipla, ciascuna con la risposta.\n\n"
        "Argomento: cultura\nCome si chiama la casa delle api?\n"
        "A. alveare\nB. nido\nC. tana\nD. cuccia\nRisposta: A\n\n"
        "Argomento: cultura\nQuale verbo è al futuro?\nA. andai\nB. andrò\nRisposta:"
    )
    assert choice == " B"
    (accuracy, _) = task_scores(results, "italic", task.recipe)
    assert accuracy["n"] == 4 and accuracy["majority_baseline"] == 0.5
    assert accuracy["chance"] == (1 / 4 + 1 / 2 + 1 / 5 + 1 / 3) / 4


def test_an_answer_beyond_the_choices_is_set_aside(tmp_path: Path) -> None:
    rows = [*items(ROWS, "test"), *items(ROWS[:1], "dev")]
    rows[3]["answer"] = "E"
    make_data(tmp_path, "italic", rows)
    manifest = tmp_path / "italic.json"
    manifest.write_text(manifest.read_text().replace("{", '{"entry": {"max_lost_rows": 0.5},', 1))
    (task,) = read_suite([TASK], tmp_path)
    assert sum(task.usable.set_aside.values()) == 1 and task.usable.places == [0, 1, 2]
