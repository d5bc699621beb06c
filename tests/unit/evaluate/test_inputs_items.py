"""Items that a task cannot score.

Set aside before a model is loaded, counted by reason, and never the end of a suite.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from small import CHATML, make_data, make_model, make_tokenizer

from zagreus.errors import InputError
from zagreus.evaluation.harness import SuiteTask, check_model, load, read_suite, score
from zagreus.evaluation.metrics import answer_results
from zagreus.evaluation.rows import item_rows
from zagreus.evaluation.scores import task_scores
from zagreus.manifest import read_manifest, write_manifest

CHOICE = {"query": "q", "choices": [" a", " b", " c"], "gold": 1}
ARC = {
    "question": "What is warm?",
    "choices": {"text": ["Sun", "Ice", "Wind"], "label": ["A", "B", "C"]},
    "answerKey": "A",
}
HELLASWAG = {
    "activity_label": "Cooking",
    "ctx_a": "She cuts bread.",
    "ctx_b": "she",
    "endings": ["eats.", "flies.", "sleeps."],
    "label": "0",
}
M_ARC = {
    "instruction": "Che cosa scalda?",
    "answer": "A",
    "option_a": "Il sole",
    "option_b": "Il ghiaccio",
    "option_c": "Un sasso",
}
M_ARC |= {"option_d": "La luna", "option_e": None}
CLOZE = {key: value for key, value in M_ARC.items() if key != "option_e"}
MMLU = {"question": "What?", "subject": "law", "choices": ["w", "x", "y", "z"], "answer": 2}
PIQA = {"prompt": "To boil water", "solution0": "heat it", "solution1": "cool it", "label": 0}
BELEBELE = {"flores_passage": "Il sole scalda.", "question": "Che cosa?", "correct_answer_num": "1"}
BELEBELE |= {
    f"mc_answer{number}": word
    for number, word in enumerate(("sole", "ghiaccio", "sasso", "luna"), 1)
}
HELDOUT = {"text": "Il sole scalda.", "bytes": 15, "unigram_bits": 60.0}
EXAM = {
    "question": "Qual?",
    "choices": {"text": ["um", "dois"], "label": ["A", "B"]},
    "answerKey": "A",
}
ASSIN = {
    "premise": "Chove.",
    "hypothesis": "Há chuva.",
    "entailment_judgment": 1,
    "relatedness_score": 3.5,
}
CHAT = {
    "language": "ita",
    "messages": [{"role": "user", "content": "Ciao?"}],
    "reference": "Salve.",
    "tool": "",
}
IFEVAL = {
    "key": 1,
    "prompt": "Say no.",
    "instruction_id_list": ["punctuation:no_comma"],
    "kwargs": [{"num_words": None}],
}
GOOD = {
    "choice": CHOICE,
    "arc_easy": ARC,
    "hellaswag": HELLASWAG,
    "m_hellaswag": HELLASWAG,
    "m_arc": M_ARC,
    "m_mmlu": CLOZE,
    "m_mmlu_cloze": CLOZE,
    "mmlu": MMLU,
    "mmlu_cloze": MMLU,
    "global_piqa": PIQA,
    "belebele": BELEBELE,
    "heldout": HELDOUT,
    "port/bluex": EXAM,
    "port/assin2_rte": ASSIN,
    "port/assin2_sts": ASSIN,
    "instructions": CHAT,
    "ifeval": IFEVAL,
}
SPLIT = {"hellaswag": "validation", "m_hellaswag": "val", "ifeval": "train"}


def arc(text: Any = None, **other: Any) -> dict:
    return {"choices": {"text": text, "label": ["A", "B", "C"]}, **other}


# The task, what is wrong with one item, and the reason.
BAD: list[tuple[str, dict, str]] = [
    # Choices.
    ("choice", {"choices": [" a", "", " c"]}, "a choice is empty"),
    ("choice", {"choices": [" a", "  \n", " c"]}, "a choice is empty"),
    ("choice", {"choices": [" a", None, " c"]}, "a choice is null"),
    ("choice", {"choices": []}, "no choices"),
    ("choice", {"choices": [" b"], "gold": 0}, "one choice only"),
    ("choice", {"choices": None}, "the choices are not a list"),
    ("choice", {"choices": [" a", " a", " a"]}, "the right choice stands there twice"),
    ("choice", {"choices": [" a", " b", "\tb "]}, "the right choice stands there twice"),
    ("arc_easy", arc([1, 2, 3]), "a choice is not text"),
    ("hellaswag", {"endings": ["eats.", "[title] [step]", "flies."]}, "a choice is empty"),
    ("hellaswag", {"endings": ["[substeps]", "flies.", "sleeps."]}, "a choice is empty"),
    (
        "hellaswag",
        {"endings": ["eats.", None, "flies."]},
        "the task cannot prepare the item: AttributeError",
    ),
    ("hellaswag", {"endings": ["eats."] * 3}, "the right choice stands there twice"),
    ("m_arc", {"option_a": None, "answer": "D"}, "the gold is beyond the choices"),
    ("m_arc", {"option_b": None, "option_c": "", "option_d": None}, "one choice only"),
    ("m_arc", {"option_b": "[1]"}, "a choice is empty"),
    ("m_mmlu_cloze", {"option_c": None}, "a choice is null"),
    ("m_mmlu_cloze", {"option_c": " "}, "a choice is empty"),
    ("m_mmlu_cloze", {"option_a": None}, "a choice is null"),
    ("mmlu_cloze", {"choices": ["w", "", "y", "z"]}, "a choice is empty"),
    ("mmlu_cloze", {"choices": ["w", "x", "w", "z"]}, "the right choice stands there twice"),
    ("m_mmlu", {"option_b": None}, "a null in the question"),
    ("belebele", {"mc_answer3": None}, "a null in the question"),
    ("global_piqa", {"solution1": None}, "a choice is null"),
    ("global_piqa", {"solution1": "heat it"}, "the right choice stands there twice"),
    # The gold.
    *(
        ("choice", {"gold": gold}, reason)
        for gold, reason in ((None, "no gold"), (-1, "beyond"), (99, "beyond"), (3, "beyond"))
    ),
    ("arc_easy", {"answerKey": None}, "no gold"),
    ("arc_easy", {"answerKey": "E"}, "the gold cannot be read: ValueError"),
    ("hellaswag", {"label": ""}, "the task cannot prepare the item: ValueError"),
    ("hellaswag", {"label": None}, "the task cannot prepare the item: TypeError"),
    ("hellaswag", {"label": "-1"}, "the gold is beyond the choices"),
    ("hellaswag", {"label": "99"}, "the gold is beyond the choices"),
    ("m_mmlu", {"answer": "E"}, "the gold is none of the choices"),
    ("m_mmlu", {"answer": None}, "no gold"),
    ("m_mmlu_cloze", {"answer": "E"}, "the gold cannot be read: ValueError"),
    ("m_mmlu_cloze", {"answer": None}, "no gold"),
    ("m_arc", {"answer": "E"}, "the gold is beyond the choices"),
    ("mmlu", {"answer": 99}, "the gold is beyond the choices"),
    ("mmlu", {"answer": -1}, "the gold is beyond the choices"),
    ("belebele", {"correct_answer_num": "5"}, "the gold cannot be read: ValueError"),
    ("global_piqa", {"label": 2}, "the gold is beyond the choices"),
    ("port/bluex", {"answerKey": "E"}, "the gold is none of the choices"),
    ("port/bluex", {"answerKey": None}, "no gold"),
    ("port/assin2_rte", {"entailment_judgment": None}, "no gold"),
    ("port/assin2_rte", {"entailment_judgment": 7}, "the gold cannot be read: UndefinedError"),
    ("port/assin2_sts", {"relatedness_score": None}, "TypeError"),
    ("port/assin2_sts", {"relatedness_score": float("nan")}, "the score is no number"),
    # The question.
    ("choice", {"query": None}, "a null in the question"),
    ("choice", {"query": " "}, "the question is empty"),
    ("choice", {"query": "2020"}, "the question is a bare number"),
    ("arc_easy", {"question": None}, "a null in the question"),
    ("m_mmlu", {"instruction": None}, "the question cannot be made"),
    ("mmlu", {"question": None}, "the question cannot be made"),
    ("mmlu", {"subject": None}, "the question cannot be made"),
    ("global_piqa", {"prompt": None}, "the question is null"),
    ("port/bluex", {"question": None}, "a null in the question"),
    ("port/assin2_rte", {"premise": None}, "a null in the question"),
    ("ifeval", {"prompt": None}, "the question is null"),
    ("ifeval", {"instruction_id_list": ["no:such"]}, "an answer cannot be judged: KeyError"),
    ("instructions", {"messages": []}, "a null in the question"),
    ("instructions", {"messages": None}, "a null in the question"),
    ("instructions", {"messages": [{"role": "user", "content": None}]}, "a null in the question"),
    ("instructions", {"language": None}, "unknown language 'None'"),
    ("instructions", {"language": "eus"}, "langdetect does not tell the language 'eus'"),
    # Whole documents.
    ("heldout", {"text": ""}, "no text"),
    ("heldout", {"text": None}, "no gold"),
    ("heldout", {"text": " \n"}, "no text"),
    ("heldout", {"bytes": 0}, "'bytes' is not a number above 0"),
    ("heldout", {"unigram_bits": float("nan")}, "'unigram_bits' is not a number above 0"),
]


def read(
    folder: Path, name: str, rows: list[dict], limit: float | None = 1, num_fewshot: int = 0
) -> SuiteTask:
    rows = [
        {"split": SPLIT.get(name, "test"), "id": f"law/{number}", **row}
        for number, row in enumerate(rows)
    ]
    if name == "arc_easy" and any(
        isinstance(choice, int) for row in rows for choice in row["choices"]["text"]
    ):
        rows = [{**row, "choices": {**row["choices"], "text": [1, 2, 3]}} for row in rows]
    kept = (
        [{**row, "split": "train"} for row in rows[:1]]
        if name in ("m_mmlu", "m_mmlu_cloze", "m_hellaswag", "m_arc")
        else []
    )
    examples = (
        [{**row, "split": "dev"} for row in rows[:1]] if name.startswith(("port/", "mmlu")) else []
    )
    make_data(folder, "d", [*rows, *kept, *examples])
    if limit is not None:
        about = {
            "kind": "evaluation_data",
            "name": "d",
            "outputs": [folder / "d.parquet"],
            "entry": {"max_lost_rows": limit},
        }
        write_manifest(folder / "d.json", **about)
    task = {
        "name": "t",
        "language": "ita",
        "recipe": f"recipes/evaluate/{name}.yaml",
        "data": "d",
        "num_fewshot": num_fewshot,
    }
    return read_suite([task], folder)[0]


@pytest.fixture(autouse=True)
def _nltk(monkeypatch: pytest.MonkeyPatch) -> None:
    """IFEval's sentence model is not what these tests are about.

    None of the checkers below asks for it.
    """
    monkeypatch.setattr("zagreus.evaluation.harness._check_nltk", lambda *_: None)


@pytest.mark.parametrize("name", GOOD)
def test_good_items_are_all_scored(tmp_path: Path, name: str) -> None:
    task = read(tmp_path, name, [GOOD[name]] * 3, limit=None)
    assert task.usable.set_aside == {} and task.usable.places == [0, 1, 2]


@pytest.mark.parametrize(
    ("name", "change", "reason"),
    BAD,
    ids=[f"{name}-{number}" for number, (name, _, _) in enumerate(BAD)],
)
def test_an_item_that_cannot_be_scored(
    tmp_path: Path, name: str, change: dict, reason: str
) -> None:
    """Set aside among good ones, and one line where the share is above the limit."""
    good = GOOD[name]
    rows = [good, {**good, **change}, good]
    if name == "arc_easy" and change.get("choices", {}).get("text") == [1, 2, 3]:
        with pytest.raises(InputError, match=f"cannot score 3 of 3 items .3 {reason}"):
            read(tmp_path, name, rows)
        return
    task = read(tmp_path, name, rows)
    ((message, count),) = task.usable.set_aside.items()
    assert count == 1 and reason in message, message
    assert task.usable.places == [0, 2]
    with pytest.raises(
        InputError,
        match=(
            r"d\.parquet: task 't' cannot score 1 of 3 items .* expected at most 0\.01 "
            r".*max_lost_rows"
        ),
    ) as caught:
        read(tmp_path, name, rows, limit=None)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("arc_easy", {"answerKey": "a"}),
        ("m_mmlu", {"answer": "a"}),
        ("m_mmlu", {"answer": " A "}),
        ("m_mmlu_cloze", {"answer": "b"}),
        ("m_arc", {"answer": "a"}),
        ("port/bluex", {"answerKey": "b"}),
    ],
)
def test_an_answer_in_lower_case_is_read(tmp_path: Path, name: str, change: dict) -> None:
    task = read(tmp_path, name, [GOOD[name], {**GOOD[name], **change}], limit=None)
    assert task.usable.read == 1 and task.usable.places == [0, 1] and not task.usable.set_aside


def test_a_float_is_no_gold(tmp_path: Path) -> None:
    """A column of floats, as a table with a missing label has them."""
    with pytest.raises(InputError, match="3 of 3 items .3 the gold is of the type float"):
        read(tmp_path, "global_piqa", [{**PIQA, "label": label} for label in (0.0, 1.0, 0.0)])
    with pytest.raises(InputError, match="3 of 3 items .3 the gold is none of the choices"):
        read(tmp_path, "choice", [{**CHOICE, "gold": label} for label in (0.0, 1.0, 0.5)])


def test_a_bad_example_is_set_aside_and_not_counted(tmp_path: Path) -> None:
    rows = [{**MMLU, "split": "dev", "answer": answer} for answer in (1, 99, 2)] + [MMLU] * 3
    task = read(tmp_path, "mmlu", rows, num_fewshot=2)
    assert task.usable.set_aside == {"example: the gold is beyond the choices": 1}
    with pytest.raises(
        InputError, match="takes 4 few-shot examples, but its split 'dev' has 3 of the subject"
    ):
        read(tmp_path, "mmlu", rows, num_fewshot=4)


def test_thousands_of_bad_items_are_said_soon(tmp_path: Path) -> None:
    rows = [{**HELLASWAG, "label": ""}] * 3000
    with pytest.raises(
        InputError,
        match="cannot score 3000 of 3000 items .3000 the task cannot prepare the item: ValueError",
    ):
        read(tmp_path, "hellaswag", rows, limit=None)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["t", "t"], "task 't' stands in the suite 2 times"),
        ([""], "task '': expected a name of letters"),
        (["a/b"], "task 'a/b': expected a name"),
        (["a'b"], "expected a name"),
        (['a"b'], "expected a name"),
        ([".."], "expected a name"),
    ],
)
def test_names_of_tasks(tmp_path: Path, names: list[str], message: str) -> None:
    make_data(tmp_path, "d", [{"id": "1", **CHOICE}])
    tasks = [
        {
            "name": name,
            "language": "ita",
            "recipe": "recipes/evaluate/choice.yaml",
            "data": "d",
            "num_fewshot": 0,
        }
        for name in names
    ]
    with pytest.raises(InputError, match=message):
        read_suite(tasks, tmp_path)


GEMMA = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% "
    "endif %}" + CHATML
)
MISTRAL = (
    "{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') "
    "}}{% endif %}{% endfor %}" + CHATML
)
SYSTEM, USER, ANSWER = ({"role": role, "content": role} for role in ("system", "user", "assistant"))


@pytest.mark.parametrize(
    ("template", "messages", "message"),
    [
        (
            GEMMA,
            [SYSTEM, USER],
            "refuses the roles system, user .System role not supported.; take conversations "
            "without a system message",
        ),
        (
            MISTRAL,
            [USER, USER],
            "refuses the roles user, user .Conversation roles must alternate.*; take "
            "conversations in which user",
        ),
        (
            MISTRAL,
            [SYSTEM, USER],
            "refuses the roles system, user .*; take conversations without a system message",
        ),
        ("{{ undefined_name.x }}", [USER], "refuses the roles user .*; correct the template"),
        ("{% for %}", [USER], "refuses the roles user .*; correct the template"),
        (
            "{{ messages[0]['content'] + 1 }}",
            [USER],
            "refuses the roles user .*; correct the template",
        ),
    ],
)
def test_what_a_chat_template_refuses_is_said_before_loading(
    tmp_path: Path, template: str, messages: list, message: str
) -> None:
    suite = [read(tmp_path, "instructions", [CHAT, {**CHAT, "messages": messages}])]
    folder = tmp_path / "model"
    with pytest.raises(InputError, match=message) as caught:
        check_model(suite, make_tokenizer(template), {"max_position_embeddings": 4096}, folder)
    assert str(caught.value).startswith(str(folder)) and "\n" not in str(caught.value)


def test_the_languages_of_answers() -> None:
    german = (
        "Guten Morgen, die Bibliothek der Stadt öffnet jeden Morgen um neun Uhr, außer am Sonntag."
    )
    norwegian = (
        "God morgen, biblioteket i byen åpner hver morgen klokken ni, unntatt på søndager og "
        "helligdager."
    )
    chinese = "早上好，市图书馆每天早上九点开门，星期天除外。"
    for language, text in (("deu", german), ("nob", norwegian), ("cmn", chinese), ("zho", chinese)):
        assert answer_results({"language": language}, [text])["in_language"] == 1.0
        assert answer_results({"language": "ita"}, [text])["in_language"] == 0.0
    with pytest.raises(
        InputError,
        match=(
            "unknown language 'de', expected an ISO 639-3 code such as 'deu'; did you mean "
            "'deu' .German."
        ),
    ):
        answer_results({"language": "de"}, [german])


@pytest.mark.parametrize(
    "name",
    ["choice", "arc_easy", "hellaswag", "m_arc", "m_mmlu_cloze", "heldout", "port/assin2_rte"],
)
def test_mutated_items_never_end_a_suite(tmp_path: Path, name: str) -> None:
    """Values of items are replaced at random.

    Every row is either scored or counted, and the model scores those that are left.
    """
    draw = random.Random(name)
    strange: dict[type, list[Any]] = {
        str: ["", " ", None, "[x]", "42", "é\u2028", "a" * 300, "E", "b", "-1", "{{ x }}", "'"],
        int: [None, -1, 0, 3, 99, 2**40],
        float: [None, float("nan"), float("inf"), -1.0, 0.0],
    }

    def mutated(value: Any) -> Any:
        if isinstance(value, dict):
            key = draw.choice(list(value))
            return {**value, key: mutated(value[key])}
        if isinstance(value, list):
            index = draw.randrange(len(value))
            return draw.choice(
                [
                    value[:index],
                    value + value,
                    [*value[:index], mutated(value[index]), *value[index + 1 :]],
                ]
            )
        return draw.choice(strange[type(value)]) if type(value) in strange else value

    rows = [GOOD[name]] + [mutated(GOOD[name]) for _ in range(30)]
    task = read(tmp_path, name, rows)
    assert len(task.usable.places) + sum(task.usable.set_aside.values()) == len(rows)
    manifest = make_model(tmp_path / "model", context=512)
    ((_, results),) = score(load(manifest.parent, make_tokenizer(), 8), [task])
    entries = task_scores(results, "t", task.recipe)
    assert entries and all(
        entry["value"] == entry["value"] and entry["n"] == len(task.usable.places)
        for entry in entries
    )
    assert len(item_rows(results["samples"]["t"], "t", task.recipe["output_type"])) == len(
        task.usable.places
    )


@pytest.mark.slow
def test_what_is_set_aside_stands_beside_the_score(tmp_path: Path) -> None:
    model = make_model(tmp_path / "model")
    read(
        tmp_path / "data",
        "choice",
        [{**CHOICE, "gold": 99}, CHOICE, {**CHOICE, "choices": []}, CHOICE, {**CHOICE, "gold": -1}],
    )
    task = {
        "name": "t",
        "language": "ita",
        "recipe": "recipes/evaluate/choice.yaml",
        "data": "d",
        "num_fewshot": 0,
    }
    command = [
        sys.executable,
        "-P",
        "scripts/evaluate.py",
        "--model",
        str(model),
        "--suite",
        "all",
        "--data",
        str(tmp_path / "data"),
    ]
    command += [
        "--tasks",
        json.dumps([task]),
        "--items",
        str(tmp_path / "all.items.parquet"),
        "--output",
        str(tmp_path / "all.json"),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (
        "t: set aside, they cannot be scored: 2 the gold is beyond the choices; 1 no choices"
        in done.stdout
    )
    for entry in read_manifest(tmp_path / "all.json")["scores"]:
        assert entry["n"] == 2 and entry["set_aside"] == {
            "no choices": 1,
            "the gold is beyond the choices": 2,
        }
    assert pyarrow.parquet.read_table(tmp_path / "all.items.parquet")["doc_id"].to_pylist() == [
        1,
        3,
    ]
