"""The port of lm-evaluation-harness-pt.

How answers are read, and each task through lm-eval on rows in the data sets' own columns.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lm_eval.tasks
import numpy
import pytest
import scipy.stats
import sklearn.metrics
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from small import make_data

from zagreus.config.long_form import read_config
from zagreus.errors import InputError
from zagreus.evaluation.examples import set_apart
from zagreus.evaluation.harness import SuiteTask, read_suite, score
from zagreus.evaluation.portuguese import INVALID, read_label, read_letter, read_number
from zagreus.evaluation.rows import item_rows
from zagreus.evaluation.scores import task_scores
from zagreus.evaluation.spread import RESAMPLES, bootstrap_stderr
from zagreus.evaluation.trivial import best_trivial
from zagreus.pairs import METRICS, f1_macro, pearson

CONFIG = read_config("config.yaml")
PORT = CONFIG["evaluations"]["portuguese"]["tasks"]


@pytest.mark.parametrize(
    ("said", "letter"),
    [
        (" B", "B"),
        ("B. Porque sim", "B"),
        ("A resposta correta é C.", "C"),  # "é" goes with its accent: "e C"
        ("Letra D", "D"),
        ("a opção E está certa", "E"),
        ("Nenhuma das alternativas: A ou B", "B"),  # at the end goes before anywhere
        ("b", INVALID),
        ("", INVALID),
        ("Banana", INVALID),
    ],
)
def test_a_letter_is_read(said: str, letter: str) -> None:
    assert read_letter(said, "ABCDE") == letter


@pytest.mark.parametrize(
    ("said", "label"),
    [
        (" Não", "Não"),
        ("nao.", "Não"),
        ("Sim, porque sim", "Sim"),
        ("Sim e não", "Sim"),  # holds both, and begins like the first
        ("Sin", "Sim"),
        ("talvez", INVALID),
        ("", INVALID),
    ],
)
def test_a_label_is_read(said: str, label: str) -> None:
    assert read_label(said, ["Não", "Sim"]) == label


@pytest.mark.parametrize(
    ("said", "number"),
    [
        ("3,5", 3.5),
        (" 4.0 de 5", 4.05),
        ("cerca de 2", 2.0),
        ("9", 5.0),
        ("0,1", 1.0),
        ("muito", None),
        ("3.", 3.0),
    ],
)
def test_a_number_is_read(said: str, number: float | None) -> None:
    assert read_number(said) == number


def test_macro_f1_and_correlation_against_others() -> None:
    draw = numpy.random.default_rng(0)
    rights = draw.choice(["Sim", "Não"], size=200, p=[0.3, 0.7])
    predicted = numpy.where(
        draw.random(200) < 0.6, rights, draw.choice(["Sim", "Não", INVALID], size=200)
    )
    pairs = list(zip(rights.tolist(), predicted.tolist(), strict=True))
    expected = sklearn.metrics.f1_score(rights, predicted, labels=["Não", "Sim"], average="macro")
    assert f1_macro(pairs) == pytest.approx(expected)
    # The published majority-class baseline at a share of 0.785: 2p / (1 + p) / 2.
    assert f1_macro([("Não", "Não")] * 785 + [("Sim", "Não")] * 215) == pytest.approx(
        0.4398, abs=1e-4
    )
    numbers = [(float(one), float(one + other)) for one, other in draw.normal(size=(100, 2))]
    assert pearson(numbers) == pytest.approx(
        scipy.stats.pearsonr(*zip(*numbers, strict=True)).statistic
    )
    assert pearson([(1.0, 5.0), (2.0, 5.0)]) == 0.0


def test_the_bootstrap_agrees_with_the_formula_of_a_mean() -> None:
    values = [(float(draw), 1.0) for draw in numpy.random.default_rng(0).random(150) < 0.4]
    mean = sum(value for value, _ in values) / 150
    stderr = bootstrap_stderr(values, lambda pairs: sum(value for value, _ in pairs) / len(pairs))
    assert stderr == pytest.approx((mean * (1 - mean) / 150) ** 0.5, rel=4 / (2 * RESAMPLES) ** 0.5)
    assert bootstrap_stderr(values[:1], len) is None


def test_examples_are_moved_in_the_order_given() -> None:
    rows = [{"id": str(number), "idx": 10 * number} for number in range(6)]
    made = set_apart({"test": rows}, {"split": "test", "column": "idx", "ids": [40, 10]}, "d")
    assert [row["id"] for row in made["dev"]] == ["4", "1"]
    assert [row["id"] for row in made["test"]] == ["0", "2", "3", "5"]
    for selection, message in (
        ({"split": "train", "column": "idx", "ids": [1]}, "d: no split 'train'.*it has test"),
        ({"split": "test", "column": "name", "ids": [1]}, "d: no column 'name'"),
        (
            {"split": "test", "column": "idx", "ids": [40, 41]},
            "d: no row of the split 'test' has the idx '41'",
        ),
    ):
        with pytest.raises(InputError, match=message):
            set_apart({"test": rows}, selection, "d")
    with pytest.raises(InputError, match="two rows"):
        set_apart({"test": [*rows, rows[0]]}, {"split": "test", "column": "idx", "ids": [0]}, "d")


def exam(number: int, letters: str) -> dict[str, Any]:
    choices = {
        "text": [f"escolha {letter.lower()}{number}" for letter in letters],
        "label": list(letters),
    }
    return {
        "question": f"Questão {number}?",
        "choices": choices,
        "answerKey": letters[number % len(letters)],
        "nullified": False,
    }


def raw_row(name: str, number: int) -> dict[str, Any]:
    """A row in the columns of the hub's data set."""
    match name:
        case "assin2":
            pair = {"premise": f"Frase {number}.", "hypothesis": f"Outra {number}."}
            return {
                "sentence_pair_id": number,
                **pair,
                "relatedness_score": 1 + number % 9 / 2,
                "entailment_judgment": number % 2,
            }
        case "faquad_nli":
            return {
                "document_title": "t",
                "question": f"Quem {number}?",
                "answer": f"Ele {number}.",
                "label": number % 2,
            }
        case "hatebr_offensive" | "portuguese_hate_speech":
            return {"idx": number, "sentence": f"Texto {number}", "label": number % 2}
        case "tweetsentbr":
            return {
                "id": f"t{number}",
                "sentence": f"Tweet {number}",
                "label": ("Positive", "Neutral", "Negative")[number % 3],
            }
        case "oab_exams":
            return {"id": f"2011-01_{number}", "exam_id": "2011-01", **exam(number, "ABCD")}
        case "bluex":
            return {"id": f"USP_2019_{number}", **exam(number, "ABCDE"[: 4 + number % 2])}
        case _:
            return {"id": f"2015_{number}", "exam_id": "2015", **exam(number, "ABCDE")}


def raw_splits(name: str) -> dict[str, list[dict[str, Any]]]:
    """Rows of every split, those that the configuration names as examples among them, with ids as
    read_hub gives them.
    """
    examples = CONFIG["evaluation_data"][name].get("examples")
    test = [raw_row(name, 5000 + number) for number in range(12)]
    if examples is None:
        splits = {"dev": [raw_row(name, number) for number in range(30)], "test": test}
    else:
        held = [
            raw_row(name, number) | {examples["column"]: value}
            for number, value in enumerate(examples["ids"])
        ]
        splits = (
            {"train": held[::-1], "test": test}
            if examples["split"] == "train"
            else {"test": [*held[::-1], *test]}
        )
    splits = {
        split: [{**row, "id": str(row.get("id", number))} for number, row in enumerate(rows)]
        for split, rows in splits.items()
    }
    return set_apart(splits, examples, name) if examples else splits


def suite_of(folder: Path) -> list[SuiteTask]:
    for name in {task["data"] for task in PORT}:
        made = raw_splits(name)
        make_data(
            folder,
            name,
            [
                {**row, "split": split}
                for split, rows in made.items()
                if split != "train"
                for row in rows
            ],
        )
    return read_suite([{**task, "language": "por"} for task in PORT], folder)


class Answering(LM):
    """A model that gives the right answer of two in three documents, in its own words, and nothing
    of the third.
    """

    reason, tokenizer, scorer = None, None, "answers"

    def __init__(self, right: Any) -> None:
        super().__init__()
        self.right, self.prompts = right, []

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        self.prompts += [request.args for request in requests]
        return [
            f" {self.right(request.doc)}.\n" if number % 3 else "..."
            for number, request in enumerate(requests)
        ]

    def loglikelihood(self, requests: list[Instance], **_: Any) -> list[tuple[float, bool]]:
        raise NotImplementedError

    loglikelihood_rolling = loglikelihood


@pytest.mark.parametrize("index", range(9), ids=[task["name"] for task in PORT])
def test_each_task_through_the_harness(tmp_path: Path, index: int) -> None:
    task = suite_of(tmp_path)[index]
    assert (
        task.built is not None
        and task.metadata["port"] == "lm-evaluation-harness-pt"
        and task.name.endswith("_port")
    )
    model = Answering(task.built.doc_to_target)
    ((_, results),) = score(model, [task])  # type: ignore[arg-type]
    samples = results["samples"][task.name]
    prompt, arguments = model.prompts[0]
    description, *examples, question = prompt.split("\n\n")
    assert (
        description == task.recipe["description"].strip()
        and len(examples) == task.num_fewshot == PORT[index]["num_fewshot"]
    )
    assert question == task.built.doc_to_text(samples[0]["doc"])
    assert arguments["until"] == ["\n\n"] and arguments["max_gen_toks"] == 32
    shown = task.splits["dev"].to_pylist()[: task.num_fewshot]
    assert examples == [
        f"{task.built.doc_to_text(row)} {task.built.doc_to_target(row)}" for row in shown
    ], "in the order of the list"
    assert len(samples) == 12
    scores = {
        entry["metric"]: entry
        for entry in task_scores(
            results, task.name, task.recipe, best_trivial(task.built, task.metadata["trivial"])
        )
    }
    items = item_rows(samples, task.name, "generate_until")
    for metric in METRICS.keys() & scores.keys():
        assert METRICS[metric]([tuple(item["pair"]) for item in items]) == pytest.approx(
            scores[metric]["value"]
        )
    if "pearson" in scores:
        assert (
            0 < scores["pearson"]["value"] < 1
            and scores["pearson"]["majority_baseline"] == 0.0
            and scores["pearson"]["stderr"] > 0
        )
        assert scores["pearson"]["unparsed"] == pytest.approx(4 / 12)
        return
    accuracy = scores["acc"]
    assert accuracy["value"] == pytest.approx(8 / 12) and accuracy["unparsed"] == pytest.approx(
        4 / 12
    )
    assert sum(accuracy["label_shares"].values()) == pytest.approx(8 / 12)
    assert [item["correct"] for item in items] == [number % 3 != 0 for number in range(12)]
    assert accuracy["majority_baseline"] < accuracy["value"] and accuracy["stderr"] > 0
    if "f1_macro" in scores:
        pairs = [sample["f1_macro"] for sample in samples]
        labels = sorted({right for right, _ in pairs})
        assert scores["f1_macro"]["value"] == pytest.approx(
            sklearn.metrics.f1_score(*zip(*pairs), labels=labels, average="macro")
        )
        assert (
            scores["f1_macro"]["stderr"] > 0
            and 0 < scores["f1_macro"]["majority_baseline"] < scores["f1_macro"]["value"]
        )
    else:
        assert accuracy["chance"] == pytest.approx(
            sum(1 / len(sample["doc"]["choices"]["label"]) for sample in samples) / 12
        )


def test_the_few_shot_examples_of_the_fork() -> None:
    num_fewshot = {task["name"].removesuffix("_port"): task["num_fewshot"] for task in PORT}
    assert num_fewshot == {
        **dict.fromkeys(("assin2_rte", "assin2_sts", "faquad_nli"), 15),
        **dict.fromkeys(("bluex", "enem_challenge", "oab_exams"), 3),
        **dict.fromkeys(("hatebr_offensive", "portuguese_hate_speech", "tweetsentbr"), 25),
    }
    for task in PORT:
        listed = CONFIG["evaluation_data"][task["data"]].get("examples", {"ids": range(25)})["ids"]
        assert len(listed) >= task["num_fewshot"] and len(set(map(str, listed))) == len(listed)
    assert json.dumps(PORT).count("_port") == 9
    assert not (Path(lm_eval.tasks.__file__).parent / "enem_challenge").exists(), (
        "lm-eval has it now: use that"
    )
