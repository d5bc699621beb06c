"""config/nesso2.yaml has the published facts (reference/nesso2 and docs/nesso2.md)."""

import copy
import json
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from zagreus.config.check import check_config
from zagreus.config.long_form import read_config
from zagreus.config.yaml_file import read_mapping
from zagreus.posttraining.distillation.recipe_file import load_distillation
from zagreus.posttraining.recipe_file import load_recipe
from zagreus.recipe.read import ignored, read_recipe
from zagreus.workflow.workflow import Workflow

MODELS = read_mapping("config/nesso2.yaml")["models"]
REPLAY = MODELS["ita"]["pretrain"]["mixture"]


def recipe_of(model: str):
    return read_recipe(MODELS[model]["pretrain"]["recipe"])


def test_each_step_begins_with_the_step_before() -> None:
    assert MODELS["ita-knowledge"]["pretrain"]["from"] == "ita"
    assert MODELS["ita-32k"]["pretrain"]["from"] == "ita-knowledge"
    assert MODELS["nesso2-agentic"]["from"] == "ita-32k"


@pytest.mark.parametrize(("model", "tokens"), [("ita-knowledge", 4.46e9), ("ita-32k", 1.44e9)])
def test_tokens_and_a_shape_that_goes_on(model: str, tokens: float) -> None:
    recipe, base = recipe_of(model), recipe_of("ita")
    steps = recipe.tokens.train_steps
    assert MODELS[model]["pretrain"]["checkpoints"] == [steps]
    assert steps * recipe.tokens_per_step == pytest.approx(tokens, rel=1e-3)
    schedule = recipe.optimizer.learning_rate_scheduler
    assert schedule.lr_warmup_steps > 0
    assert schedule.lr_decay_starting_step + schedule.lr_decay_steps == steps
    shape, old = recipe.model.model_config, base.model.model_config
    changed = {key for key, value in vars(shape).items() if value != vars(old)[key]}
    assert changed == ({"rope_theta", "max_position_embeddings"} if model == "ita-32k" else set())
    assert not any("max_position_embeddings" in line for line in ignored(recipe))


def test_half_of_the_knowledge_step_is_replay() -> None:
    mixture = MODELS["ita-knowledge"]["pretrain"]["mixture"]
    assert {name: mixture[name] for name in REPLAY} == {
        name: pytest.approx(share / 2) for name, share in REPLAY.items()
    }
    questions = sum(share for name, share in mixture.items() if name.startswith("questions_"))
    assert questions == pytest.approx(0.5 * 52e6 / 2.052e9, rel=0.02)
    assert recipe_of("ita-knowledge").optimizer.learning_rate_scheduler.learning_rate == 5e-4


def test_a_long_context_with_15_per_cent_knowledge() -> None:
    mixture, recipe = MODELS["ita-32k"]["pretrain"]["mixture"], recipe_of("ita-32k")
    knowledge = [share for name, share in mixture.items() if not name.startswith("long_")]
    assert math.fsum(knowledge) == pytest.approx(0.15, rel=1e-9)
    shape = recipe.model.model_config
    assert (shape.rope_theta, recipe.tokens.sequence_length) == (1e6, 32768)
    assert recipe.parallelism.recompute_layer and recipe.zagreus.attention is None


def test_the_sft_is_the_published_script() -> None:
    (stage,) = MODELS["nesso2-agentic"]["posttrain"]
    recipe = load_recipe(stage["recipe"])
    batch = recipe["micro_batch_size"], recipe["gradient_accumulation_steps"], stage["batch_ranks"]
    assert batch == (2, 8, 8) and recipe["sequence_len"] == 8192
    rates = ("learning_rate", "lr_scheduler", "cosine_min_lr_ratio", "warmup_ratio", "num_epochs")
    assert [recipe[key] for key in rates] == [1e-3, "cosine", 0.3, 0.03, 3]
    assert stage["template"] == "llama3" and recipe["gradient_checkpointing"]
    assert recipe["special_tokens"]["pad_token"] == "<|finetune_right_pad_id|>"
    assert [entry.get("repeat", 1) for entry in stage["data"]] == [1, 1, 4]
    assert Path("recipes/templates/llama3.jinja").exists()


def test_tool_use_is_scored_with_the_frozen_cases_and_bfcls_own_checker() -> None:
    reader = Workflow.read(read_config("config/nesso2.yaml") | {"software": "venv"}, [])
    evaluation, wheel = reader.evaluation, reader.packages.wheel("bfcl-eval")
    cases = evaluation.data_inputs(SimpleNamespace(dataset="agentic_ita"))
    assert cases == ["reference/nesso2/agentic_cases_100.json"] and Path(cases[0]).is_file()
    assert evaluation.data_inputs(SimpleNamespace(dataset="bfcl_simple")) == [wheel]
    for model in ("nesso2-agentic", "qwen3-0.6b"):
        inputs = {
            suite: evaluation.suite_inputs(SimpleNamespace(model=model, suite=suite))
            for suite in ("agentic", "bfcl")
        }
        assert inputs["agentic"] == [
            "<results>/evaluation_data/agentic_eng.json",
            "<results>/evaluation_data/agentic_ita.json",
            "recipes/evaluate/agentic.yaml",
        ]
        assert wheel in inputs["bfcl"] and len(inputs["bfcl"]) == 11 + 2
    assert not evaluation.tasks("ita", "bfcl")


def test_the_distillation_is_the_published_one_and_can_be_switched_on(tmp_path: Path) -> None:
    lines = Path("config/nesso2.yaml").read_text(encoding="utf-8").splitlines()
    begin = lines.index("  # nesso2-distilled:")
    block = "\n".join(line.removeprefix("  # ") for line in lines[begin : lines.index("", begin)])
    ((name, model),) = yaml.safe_load(block).items()
    (stage,) = model["posttrain"]
    recipe = load_distillation(stage["recipe"])
    batch = recipe["per_device_train_batch_size"] * recipe["gradient_accumulation_steps"]
    assert batch * stage["batch_ranks"] == 32 and 600 <= recipe["max_steps"] <= 900
    names = ("max_completion_length", "learning_rate", "lr_scheduler_type", "warmup_steps", "beta")
    assert [recipe[key] for key in names] == [8, 1e-5, "cosine", 50, 1.0]
    assert stage["teacher_correct"] and [entry.get("repeat", 1) for entry in stage["data"]] == [
        4,
        1,
    ]
    rows = tmp_path / "rows.jsonl"
    turns = [{"role": "user", "content": "A?"}, {"role": "assistant", "content": "B"}]
    rows.write_text(json.dumps({"id": "1", "conversation": turns}))
    config = copy.deepcopy(read_config("config/nesso2.yaml"))
    config["chat"] |= {
        entry["set"]: {"kind": "local", "path": str(rows)} for entry in stage["data"]
    }
    (tmp_path / "teacher").mkdir()
    teacher = {"title": "Nesso 3B", "languages": ["eng", "ita"], "kind": "local"}
    config["baselines"][stage["teacher"]] = teacher | {"folder": str(tmp_path / "teacher")}
    config["models"][name] = model
    check_config(config, "config/nesso2.yaml")
