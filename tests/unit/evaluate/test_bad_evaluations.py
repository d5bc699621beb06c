"""Bad input to an evaluation.

One line that says what and where, before the model is loaded where it can be known.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import lm_eval.tasks
import nltk
import pyarrow
import pyarrow.compute
import pyarrow.parquet
import pytest
import transformers
from lm_eval.api.task import ConfigurableTask
from lm_eval.tasks._yaml_loader import load_yaml
from small import CHATML, make_data, make_model, make_tokenizer

from zagreus.errors import InputError
from zagreus.evaluation.folder import check_chat, check_folder, parameters
from zagreus.evaluation.harness import check_model, read_suite
from zagreus.evaluation.identity import data_hashes, model_hashes, task_key, weights_hash
from zagreus.evaluation.tasks import build_task, read_recipe
from zagreus.manifest import sha256_file

HARNESS = Path(lm_eval.tasks.__file__).parent
ARC = {
    "id": "a",
    "question": "What is warm?",
    "choices": {"text": ["The sun", "Ice", "A stone in the shade"], "label": ["1", "2", "3"]},
    "answerKey": "1",
}
HELLASWAG = {
    "id": "h",
    "activity_label": "Cooking",
    "ctx_a": "She cuts [substeps] bread.",
    "ctx_b": "she",
    "endings": ["eats it.", "flies.", "sleeps  long.", "[title] reads."],
    "label": "0",
}
OPTIONS = {"id": "m", "instruction": " Che cosa scalda? ", "answer": "A"}
OPTIONS |= {
    "option_a": "Il sole",
    "option_b": "Il ghiaccio",
    "option_c": "Un sasso",
    "option_d": "La luna",
    "option_e": "",
}

QUESTION = {
    "id": "q",
    "flores_passage": "Il sole scalda.",
    "question": " Che cosa scalda? ",
    "correct_answer_num": "1",
}
QUESTION |= {
    "mc_answer1": "Il sole",
    "mc_answer2": "Il ghiaccio",
    "mc_answer3": "Un sasso",
    "mc_answer4": "La luna",
}


def suite_task(recipe: str | Path, num_fewshot: int = 0) -> dict:
    return {
        "name": "t",
        "language": "eng",
        "recipe": str(recipe),
        "data": "d",
        "num_fewshot": num_fewshot,
    }


@pytest.mark.parametrize(
    ("name", "harness_file", "item", "split"),
    [
        ("arc_easy", "arc/arc_easy.yaml", ARC, "test"),
        ("arc_challenge", "arc/arc_challenge.yaml", ARC, "test"),
        ("hellaswag", "hellaswag/hellaswag.yaml", HELLASWAG, "validation"),
        ("m_arc", "okapi/arc_multilingual/arc_it.yaml", OPTIONS, "test"),
        ("m_mmlu", "okapi/mmlu_multilingual/m_mmlu_it.yaml", OPTIONS, "test"),
        ("m_hellaswag", "okapi/hellaswag_multilingual/hellaswag_it.yaml", HELLASWAG, "val"),
        ("belebele", "belebele/belebele_ita_Latn.yaml", QUESTION, "test"),
    ],
)
def test_prompts_are_the_harness_own(
    tmp_path: Path, name: str, harness_file: str, item: dict, split: str
) -> None:
    """Our task file and the harness's, on the same item.

    Question, choices and answer are the same strings.
    """
    splits = {
        split: pyarrow.Table.from_pylist([item]),
        "train": pyarrow.Table.from_pylist([{**item, "id": "example"}] * 5),
    }
    ours = build_task("ours", read_recipe(Path(f"recipes/evaluate/{name}.yaml")), splits, 0, "here")
    official = {**load_yaml(HARNESS / harness_file), "training_split": None}
    if split == "test":
        official["validation_split"] = None  # lm-eval would load them, and use none of them
    reference = build_task("theirs", official, splits, 0, "here")
    (document,), (same) = list(ours.eval_docs), next(iter(reference.eval_docs))
    for part in ("doc_to_text", "doc_to_choice", "doc_to_target"):
        assert getattr(ours, part)(document) == getattr(reference, part)(same)
    assert ours.config.target_delimiter == reference.config.target_delimiter
    assert ours.VERSION == reference.VERSION
    if name == "m_mmlu":
        prompts = [
            task.fewshot_context(document, num_fewshot=5)
            for task in (_seeded(ours), _seeded(reference))
        ]
        assert prompts[0] == prompts[1]
        assert prompts[0].count("Che cosa scalda?\nA. Il sole\n") == 6
    if name.startswith("arc"):
        assert ours.doc_to_text(document) == "Question: What is warm?\nAnswer:"


@pytest.mark.parametrize(
    ("name", "harness_file"),
    [("mmlu", "mmlu/default/mmlu_{}.yaml"), ("mmlu_cloze", "mmlu/continuation/mmlu_{}.yaml")],
)
def test_mmlu_in_one_task_asks_as_its_57_do(name: str, harness_file: str) -> None:
    """Description, examples and question of every subject, five examples before it."""
    subjects = sorted(
        path.stem.removeprefix("mmlu_") for path in (HARNESS / "mmlu/default").glob("mmlu_*.yaml")
    )
    assert len(subjects) == 57
    rows = [
        {
            "id": f"{subject}/{number}",
            "subject": subject,
            "question": f" {number}: what of {subject}? ",
            "choices": list("wxyz"),
            "answer": 2,
        }
        for number in range(6)
        for subject in subjects
    ]
    splits = {
        "dev": pyarrow.Table.from_pylist(rows[57:]),
        "test": pyarrow.Table.from_pylist(rows[:57]),
    }
    ours = build_task("ours", read_recipe(Path(f"recipes/evaluate/{name}.yaml")), splits, 5, "here")
    documents = {document["subject"]: document for document in ours.eval_docs}
    for subject in subjects:
        own = {
            split: table.filter(pyarrow.compute.equal(table["subject"], subject))
            for split, table in splits.items()
        }
        reference = _seeded(
            build_task("theirs", load_yaml(HARNESS / harness_file.format(subject)), own, 5, "here")
        )
        (document,) = reference.eval_docs
        prompt = ours.fewshot_context(documents[subject], num_fewshot=5)
        assert prompt == reference.fewshot_context(document, num_fewshot=5)
        assert prompt.count(f"what of {subject}?") == 6
        assert ours.doc_to_choice(documents[subject]) == reference.doc_to_choice(document)
        assert ours.doc_to_target(documents[subject]) == reference.doc_to_target(document)


def _seeded(task: ConfigurableTask) -> ConfigurableTask:
    task.set_fewshot_seed(1234)
    return task


def test_a_scorer_without_its_nltk_data_is_refused_before_anything_is_generated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
    make_data(tmp_path, "d", [{"id": "1", "query": "a", "choices": ["a", "b"], "gold": 0}])
    recipe = Path("recipes/evaluate/choice.yaml").read_text() + "  nltk: [tokenizers/punkt_tab]\n"
    (tmp_path / "choice.yaml").write_text(recipe)
    with pytest.raises(InputError, match="NLTK's tokenizers/punkt_tab is not to be found"):
        read_suite([suite_task(tmp_path / "choice.yaml")], tmp_path)


def test_a_task_file_that_is_none(tmp_path: Path) -> None:
    make_data(tmp_path, "d", [{"id": "1", "text": "a"}])
    with pytest.raises(InputError, match="no such task file"):
        read_suite([suite_task(tmp_path / "missing.yaml")], tmp_path)
    for content, message in (
        ("task: [", "line 1, column 8: not YAML"),
        ("task: t\n", "no key 'output_type'"),
        ("include: arc/no_such.yaml\n", "neither beside it nor a task file of lm-eval"),
        ("task: t\nprocess_results: !function nowhere.to_be_found\n", "not a task file"),
    ):
        (tmp_path / "bad.yaml").write_text(content)
        with pytest.raises(InputError, match=message):
            read_suite([suite_task(tmp_path / "bad.yaml")], tmp_path)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            "output_type: multiple_choice\ntask: a\ntask: b\n",
            "line 3, column 1: the key 'task' stands there twice, in line 2 and in line 3",
        ),
        ("output_type: [multiple_choice\n", "line 2, column 1: not YAML"),
        ("task: perch\xe9\n", "line 1: byte 0xe9 is no UTF-8"),
        ("- output_type\n", "found a list, expected a mapping"),
        ("metadata: {version: .inf}\n", "line 1, column 21: found .inf, expected a finite number"),
    ],
)
def test_a_slip_in_a_task_file_is_named_with_its_line(
    tmp_path: Path, content: str, expected: str
) -> None:
    path = tmp_path / "task.yaml"
    path.write_text(content, encoding="latin-1")
    with pytest.raises(InputError, match=re.escape(expected)):
        read_recipe(path)


def test_a_missing_column_names_itself(tmp_path: Path) -> None:
    make_data(tmp_path, "d", [{"id": "1", "question": "a"}])
    for recipe, column in (
        ("choice", "query"),
        ("heldout", "text"),
        ("arc_easy", "choices"),
        ("hellaswag", "validation"),
    ):
        with pytest.raises(InputError, match=column):
            read_suite([suite_task(f"recipes/evaluate/{recipe}.yaml")], tmp_path)


def test_bad_data_files(tmp_path: Path) -> None:
    task = suite_task("recipes/evaluate/heldout.yaml")
    with pytest.raises(InputError, match=r"d\.parquet: no such file"):
        read_suite([task], tmp_path)
    (tmp_path / "d.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(InputError, match="not a whole parquet file"):
        read_suite([task], tmp_path)
    empty = pyarrow.array([], pyarrow.string())
    pyarrow.parquet.write_table(
        pyarrow.table({"id": empty, "split": empty}), tmp_path / "d.parquet"
    )
    with pytest.raises(InputError, match="no items"):
        read_suite([task], tmp_path)
    make_data(tmp_path, "d", [{"id": "1", "text": "a", "split": "train"}])
    with pytest.raises(InputError, match="no split 'test'.*it has train"):
        read_suite([task], tmp_path)
    make_data(tmp_path, "d", [{"id": "1", "query": "a", "choices": ["a", "b"], "gold": 0}])
    with pytest.raises(InputError, match="5 few-shot examples, but its task file names no"):
        read_suite([suite_task("recipes/evaluate/choice.yaml", num_fewshot=5)], tmp_path)
    make_data(tmp_path, "d", [{**OPTIONS, "split": split} for split in ("train", "train", "test")])
    with pytest.raises(InputError, match="5 few-shot examples, but its split 'train' has 2"):
        read_suite([suite_task("recipes/evaluate/m_mmlu.yaml", num_fewshot=5)], tmp_path)
    question = {"id": "q", "question": "?", "choices": list("abcd"), "answer": 0}
    make_data(
        tmp_path,
        "d",
        [{**question, "subject": "law"}, {**question, "subject": "algebra", "split": "dev"}],
    )
    with pytest.raises(InputError, match="1 few-shot examples, but its split 'dev' has 0 of the"):
        read_suite([suite_task("recipes/evaluate/mmlu.yaml", num_fewshot=1)], tmp_path)
    with pytest.raises(InputError, match="no column 'messages'"):
        read_suite([suite_task("recipes/evaluate/instructions.yaml")], tmp_path)


def test_data_and_weights_are_what_their_manifests_say(tmp_path: Path) -> None:
    path = make_data(tmp_path, "d", [{"id": "1", "text": "a"}])
    assert data_hashes(["d", "d"], tmp_path) == {"d": sha256_file(path)}
    with pytest.raises(InputError, match=r"none\.json: no such manifest"):
        data_hashes(["none"], tmp_path)
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(InputError, match=r"d\.parquet: sha256 .*, expected .* make it again"):
        data_hashes(["d"], tmp_path)
    manifest, other = make_model(tmp_path / "model"), make_model(tmp_path / "other", seed=1)
    assert weights_hash(model_hashes(manifest)) == sha256_file(
        manifest.parent / "model.safetensors"
    )
    assert weights_hash(model_hashes(manifest)) != weights_hash(model_hashes(other))
    (manifest.parent / "model.safetensors").write_bytes(
        (other.parent / "model.safetensors").read_bytes()
    )
    with pytest.raises(InputError, match=r"model\.safetensors: sha256 .*: another model"):
        model_hashes(manifest)


def test_the_key_of_a_finished_task_tells_model_data_and_task(tmp_path: Path) -> None:
    task = suite_task("recipes/evaluate/choice.yaml")
    keys = [
        task_key(task, "data", {"model.safetensors": "one"}),
        task_key(task, "data", {"model.safetensors": "other"}),
        task_key(task, "other data", {"model.safetensors": "one"}),
        task_key({**task, "num_fewshot": 1}, "data", {"model.safetensors": "one"}),
        task_key(
            suite_task("recipes/evaluate/hellaswag.yaml"), "data", {"model.safetensors": "one"}
        ),
    ]
    assert len(set(keys)) == len(keys)
    assert keys[0] == task_key(task, "data", {"model.safetensors": "one"})


def test_a_model_that_is_too_short_for_an_answer(tmp_path: Path) -> None:
    message = [{"role": "user", "content": "Hi"}]
    make_data(
        tmp_path, "d", [{"id": "1", "language": "eng", "messages": message, "reference": "Yes."}]
    )
    suite = read_suite([suite_task("recipes/evaluate/instructions.yaml")], tmp_path)
    check_model(suite, make_tokenizer(), {"max_position_embeddings": 97}, tmp_path)
    with pytest.raises(
        InputError, match="the model takes 96 tokens, but task 't' has it write up to 96"
    ):
        check_model(suite, make_tokenizer(), {"max_position_embeddings": 96}, tmp_path)
    with pytest.raises(InputError, match="no chat template"):
        check_model(suite, make_tokenizer(None), {"max_position_embeddings": 97}, tmp_path)


def test_an_incomplete_model_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such model folder"):
        check_folder(tmp_path / "none")
    folder = make_model(tmp_path / "model").parent
    assert check_folder(folder)["model_type"] == "llama"
    assert parameters(folder) == sum(
        item.numel()
        for item in transformers.AutoModelForCausalLM.from_pretrained(folder).parameters()
    )
    weights = (folder / "model.safetensors").read_bytes()
    for damaged, message in (
        (weights[:-5], "the file is truncated"),
        (b"\x08" + weights[1:100], "not a safetensors file"),
    ):
        (folder / "model.safetensors").write_bytes(damaged)
        with pytest.raises(InputError, match=message):
            check_folder(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"no model\.safetensors, not a whole model folder"):
        check_folder(folder)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(InputError, match="no tokenizer"):
        check_folder(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(InputError, match=r"config\.json: invalid JSON"):
        check_folder(folder)


def test_chat_needs_a_template_that_its_eos_ends(tmp_path: Path) -> None:
    check_chat(make_tokenizer(), tmp_path)
    with pytest.raises(InputError, match="no chat template"):
        check_chat(make_tokenizer(None), tmp_path)
    tokenizer = make_tokenizer(CHATML)
    tokenizer.eos_token = "<|begin_of_text|>"
    with pytest.raises(
        InputError,
        match=r"ends with '<\|im_end\|>', but the tokenizer's eos_token is '<\|begin_of_text\|>'",
    ):
        check_chat(tokenizer, tmp_path)


def test_every_shipped_task_file_is_read() -> None:
    recipes = sorted(Path("recipes/evaluate").glob("*.yaml"))
    assert len(recipes) >= 7
    for path in recipes:
        assert json.dumps(read_recipe(path)["task"])
