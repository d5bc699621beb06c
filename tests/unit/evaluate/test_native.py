"""Native tasks and evalita-mp.

Our task files ask, word for word, as the harness's own do, and are scored by its own metrics.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import lm_eval.tasks
import pyarrow
import pytest
import transformers
from lm_eval.tasks._yaml_loader import load_yaml
from small import make_data, make_model

from zagreus.evaluation.harness import load, read_suite, score
from zagreus.evaluation.metrics import summary_results
from zagreus.evaluation.rows import item_rows
from zagreus.evaluation.scores import task_scores
from zagreus.evaluation.tasks import build_task, read_recipe

HARNESS = Path(lm_eval.tasks.__file__).parent
EXAM = {
    "question": " Chi? ",
    "option_a": "io",
    "option_b": "tu",
    "option_c": "lui",
    "option_d": "lei",
    "answer": 2,
    "domain": "STEM",
}
NATIVE: dict[str, tuple[list[str], str, dict[str, Any]]] = {
    "global_piqa": (
        [
            f"global_piqa/nonparallel_cloze/{name}.yaml"
            for name in ("ita_latn", "spa_latn_spai", "por_latn_braz", "fra_latn_fran")
        ],
        "test",
        {
            "prompt": "Per asciugare",
            "solution0": "usa un panno.",
            "solution1": "usa l'olio.",
            "label": 0,
        },
    ),
    "multiblimp": (
        [f"multiblimp/multiblimp_{name}.yaml" for name in ("ita", "spa", "por", "fra")],
        "train",
        {"sen": "Le case sono alte.", "wrong_sen": "Le case è alte."},
    ),
    "xcopa_it": (
        ["xcopa/default_it.yaml"],
        "test",
        {
            "premise": "Piove.",
            "choice1": "Prendo l'ombrello.",
            "choice2": "Prendo il sole.",
            "question": "effect",
            "label": 0,
        },
    ),
}
EVALITA: dict[str, tuple[str, dict[str, Any]]] = {
    "te": ("test", {"text1": "Piove.", "text2": "L'acqua cade.", "entailment": "SI"}),
    "sa": ("test", {"text": "Che bello!", "opos": "1", "oneg": "0"}),
    "wic": (
        "test",
        {
            "sentence1": "La pianta cresce.",
            "sentence2": "La pianta produce.",
            "start1": 3,
            "end1": 9,
            "start2": 3,
            "end2": 9,
            "label": 0,
        },
    ),
    "hs": ("test_all", {"full_text": "Buongiorno a tutti.", "hs": 0}),
    "at": (
        "test",
        {
            "Question": "Che cosa?",
            "A": "uno",
            "B": "due",
            "C": "tre",
            "D": "quattro",
            "E": "cinque",
            "Correct": "C",
        },
    ),
    "faq": (
        "test_1",
        {
            "question": "Come?",
            "A": "uno",
            "B": "due",
            "C": "tre",
            "D": "quattro",
            "correct_answer": "B",
        },
    ),
    "ls": (
        "test",
        {"context": "Il <head>gatto</head> dorme.", "answers": [{"word": "felino", "count": 3}]},
    ),
    "re": ("test", {"text": "Pressione 120.", "relations": [["120", "pressione"]]}),
    "sum": (
        "test",
        {"source": "A Roma piove. È venerdì.", "target": "Venerdì, a Roma: pioggia e vento."},
    ),
    "ner": (
        "reduced_test",
        {"text": "Ada vive a Roma.", "entities": [{"entity_text": "Ada", "type": "PER"}]},
    ),
}
OFFICIAL = {"at": "at_task", "sum": "sum_fp"}


def assert_same(
    ours: dict[str, Any], official: dict[str, Any], splits: dict[str, pyarrow.Table]
) -> None:
    """Prompt, choices, answer, and how they are joined."""
    task = build_task("ours", ours, splits, 0, "here")
    reference = build_task(
        "theirs", {**official, "validation_split": None, "fewshot_split": None}, splits, 0, "here"
    )
    for one, other in zip(task.eval_docs, reference.eval_docs, strict=True):
        for part in ("doc_to_text", "doc_to_target", "doc_to_choice"):
            if part != "doc_to_choice" or ours["output_type"] == "multiple_choice":
                assert getattr(task, part)(one) == getattr(reference, part)(other)
        assert task.fewshot_context(one, num_fewshot=0) == reference.fewshot_context(
            other, num_fewshot=0
        )
    for key in ("target_delimiter", "fewshot_delimiter", "generation_kwargs"):
        assert getattr(task.config, key) == getattr(reference.config, key)
    assert task.aggregation().keys() == reference.aggregation().keys()


@pytest.mark.parametrize("name", NATIVE)
def test_native_tasks_ask_as_the_harness_does(name: str) -> None:
    files, split, row = NATIVE[name]
    for file in files:
        splits = {split: pyarrow.Table.from_pylist([{"id": "1", **row}])}
        assert_same(
            read_recipe(Path(f"recipes/evaluate/{name}.yaml")), load_yaml(HARNESS / file), splits
        )


@pytest.mark.parametrize("language", ["Italian", "Spanish", "Portuguese", "French"])
def test_include_in_one_task_asks_as_its_fields_do(language: str) -> None:
    """The harness has a task for each field, which takes the field's questions.

    Ours takes all, each with its field's description.
    """
    recipe, fields = read_recipe(Path("recipes/evaluate/include.yaml")), 0
    for file in sorted((HARNESS / f"include/default/{language}").glob("include_base_44_*.yaml")):
        official = load_yaml(file)
        field = (
            official["description"]
            .removeprefix("The following is multiple-choice question about ")
            .removesuffix(".")
        )
        splits = {
            "test": pyarrow.Table.from_pylist(
                [{"id": "1", **EXAM, "domain": field}, {"id": "2", **EXAM, "domain": "another"}]
            )
        }
        task = build_task("ours", recipe, splits, 0, "here")
        reference = build_task("theirs", official, splits, 0, "here")
        (document,) = list(reference.eval_docs)
        assert task.fewshot_context(task.eval_docs[0], num_fewshot=0) == reference.fewshot_context(
            document, num_fewshot=0
        )
        assert task.doc_to_choice(task.eval_docs[0]) == reference.doc_to_choice(document)
        assert task.doc_to_target(task.eval_docs[0]) == reference.doc_to_target(document)
        fields += 1
    assert fields >= 4


@pytest.mark.parametrize(
    "path", sorted(Path("recipes/evaluate/evalita").glob("*.yaml")), ids=lambda path: path.stem
)
def test_evalita_asks_as_the_harness_does(path: Path) -> None:
    task, number = path.stem.rsplit("_", 1)
    split, row = EVALITA[task.split("_")[0]]
    # Without its functions, the file of a summary is read without a download; they are the metric,
    # which is compared below.
    official = load_yaml(
        HARNESS / f"evalita_llm/_evalita-mp_{OFFICIAL.get(task, task)}_p{number}.yaml",
        resolve_func=task != "sum",
    )
    assert_same(
        read_recipe(path), official, {split: pyarrow.Table.from_pylist([{"id": "1", **row}])}
    )


def test_evalita_has_every_prompt_of_the_harness() -> None:
    """But for a second set of summaries, which is no part of evalita-mp."""
    official = {path.stem for path in (HARNESS / "evalita_llm").glob("_evalita-mp_*_p[0-9].yaml")}
    official = {name for name in official if "_fp-small_" not in name and "_group_" not in name}
    assert len(official) == len(list(Path("recipes/evaluate/evalita").glob("*.yaml"))) == 48


@pytest.mark.parametrize(
    "summary",
    ["A Roma oggi piove.", "Venerdì, a Roma: pioggia e vento.", "pioggia pioggia a roma", "È", ""],
)
def test_summaries_are_scored_by_shared_words(summary: str) -> None:
    """ROUGE-1 by its definition, counted by hand: words of ASCII letters and digits."""
    document = EVALITA["sum"][1]
    ours, target_words = (
        Counter(re.findall("[a-z0-9]+", text.lower())) for text in (summary, document["target"])
    )
    shared = sum((ours & target_words).values())
    expected = 2 * shared / (ours.total() + target_words.total()) if shared else 0.0
    assert summary_results(document, [summary])["rouge1"] == pytest.approx(expected)


def test_native_tasks_are_scored(tmp_path: Path) -> None:
    """By the real harness and a small model.

    Choices by their texts, pairs without a context, F1 of pairs.
    """
    rows = {
        "global_piqa": NATIVE["global_piqa"][2],
        "multiblimp": NATIVE["multiblimp"][2],
        "evalita/te_1": EVALITA["te"][1],
        "evalita/wic_1": EVALITA["wic"][1],
        "evalita/at_1": EVALITA["at"][1],
    }
    tasks = []
    for recipe, row in rows.items():
        name = recipe.replace("/", "_")
        several = [{**row, "id": str(number)} for number in range(4)]
        several[3] |= {
            key: {"SI": "NO", 0: 1, "C": "A"}[row[key]]
            for key in ("entailment", "label", "Correct")
            if key in row
        }
        make_data(
            tmp_path,
            name,
            [
                {**test_item, "split": "train" if name == "multiblimp" else "test"}
                for test_item in several
            ],
        )
        tasks.append(
            {
                "name": name,
                "language": "ita",
                "recipe": f"recipes/evaluate/{recipe}.yaml",
                "data": name,
                "num_fewshot": 0,
            }
        )
    folder = make_model(tmp_path / "model", context=160).parent
    scores = {}
    for task, results in score(
        load(folder, transformers.AutoTokenizer.from_pretrained(folder), 4),
        read_suite(tasks, tmp_path),
    ):
        scores |= {
            (task.name, entry["metric"]): entry
            for entry in task_scores(results, task.name, task.recipe)
        }
        for item in item_rows(results["samples"][task.name], task.name, task.recipe["output_type"]):
            assert item["values"]["gold_bits_per_byte"][0] > 0
    assert scores["global_piqa", "acc_bytes"]["chance"] == 0.5
    blimp = scores["multiblimp", "acc_norm"]
    assert (blimp["chance"], blimp["majority_baseline"]) == (0.5, None), (
        "the right sentence always comes first in the file, which nobody sees"
    )
    assert scores["evalita_te_1", "acc"]["majority_baseline"] == 0.75
    assert (
        scores["evalita_at_1", "acc"]["majority_baseline"] == 0.75
        and scores["evalita_at_1", "acc"]["chance"] == 0.2
    )
    f1 = scores["evalita_wic_1", "f1"]
    assert (
        f1["majority_baseline"] == pytest.approx(2 * 0.25 / 1.25) and f1["stderr"] is not None
    )  # always "Sì"
