"""Rungs of a ladder: their recipes, their cost, and what a configuration may ask for."""

from __future__ import annotations

import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from zagreus.config.check import check_config
from zagreus.config.long_form import read_config
from zagreus.errors import InputError
from zagreus.plan.estimate import source_plan, training_plan
from zagreus.recipe.cost import parameters
from zagreus.recipe.ladder import recipe_of, rung_entries, rung_recipe
from zagreus.recipe.read import read_recipe, recipe_slice
from zagreus.workflow.workflow import Workflow

LADDER = read_config("config/ladder.yaml")
RECIPE = read_recipe("recipes/pretrain/ladder.yaml")
SMALL = LADDER["ladder"]["sizes"]["s"]


def with_ladder(**changes: Any) -> dict[str, Any]:
    """The shipped ladder with other values; None removes a size."""
    config = copy.deepcopy(LADDER)
    sizes = changes.pop("sizes", {})
    config["ladder"] |= changes
    config["ladder"]["sizes"] |= sizes
    config["ladder"]["sizes"] = {k: v for k, v in config["ladder"]["sizes"].items() if v}
    return config


def test_a_rung_for_each_size_and_budget() -> None:
    entries = rung_entries(LADDER)
    sizes, budgets = LADDER["ladder"]["sizes"], LADDER["ladder"]["tokens"]
    assert list(entries) == [f"ladder-{size}-{tokens}" for size in sizes for tokens in budgets]
    entry = entries["ladder-s-204800"]
    assert entry["checkpoints"] == [200]
    assert entry["mixture"] == LADDER["models"]["ita"]["pretrain"]["mixture"]
    assert rung_entries({key: LADDER[key] for key in ("models",)}) == {}


def test_the_recipe_of_a_rung_is_the_models_in_small() -> None:
    """The whole schedule at its scale: here a quarter of 40, 560 and 240 steps."""
    config = with_ladder(sizes={"s": SMALL | {"learning_rate": 0.009, "init_std": 0.1}})
    rung = recipe_of(rung_entries(config)["ladder-s-204800"])
    schedule = rung.optimizer.learning_rate_scheduler
    assert rung.tokens.train_steps == rung.tokens.val_check_interval == 200
    assert schedule.lr_warmup_steps == 10 and schedule.lr_decay_starting_step == 140
    assert schedule.lr_decay_steps == 60 and schedule.learning_rate == pytest.approx(0.009)
    whole = RECIPE.optimizer.learning_rate_scheduler
    assert whole.min_decay_lr is not None and schedule.min_decay_lr == pytest.approx(
        whole.min_decay_lr * 2
    )
    assert rung.model.model_config.hidden_size == 48 and rung.model.init_method.std == 0.1
    assert rung.global_batch_size == RECIPE.global_batch_size
    assert rung.general == RECIPE.general and rung.data_stages == RECIPE.data_stages
    # 1,024 x 48 of the embedding, 2 layers of 4 x 48^2 and 3 x 48 x 132, 5 norms.
    assert parameters(rung.model.model_config, 1024) == 49_152 + 2 * (9_216 + 19_008) + 5 * 48


def test_a_rung_of_the_models_own_size_and_steps_is_the_model() -> None:
    same = rung_recipe(RECIPE, {"size": {"hidden_size": 112}, "steps": 800, "of": 800})
    assert recipe_slice(same, 800) == recipe_slice(RECIPE, 800)


def test_a_model_that_ends_before_its_decay_has_rungs_without_decay() -> None:
    """A checkpoint at step 400 of 800: the decay begins at 560."""
    rung = rung_recipe(RECIPE, {"size": {"hidden_size": 96}, "steps": 200, "of": 400})
    schedule = rung.optimizer.learning_rate_scheduler
    assert schedule.lr_decay_starting_step == 280 > rung.tokens.train_steps


def test_the_plan_has_the_rungs() -> None:
    plan = {entry.name: entry for entry in training_plan(LADDER, Path("nowhere"))}
    assert len(plan) == 13 and plan["ladder-s-204800"].tokens == 204_800
    assert plan["ladder-s-204800"].rank_hours and plan["ladder-s-204800"].parameters == 105_840
    sources = source_plan(LADDER, Path("nowhere"))
    assert {source.needed_tokens for source in sources} == {800 * 1024 / 2}, "the model's, most"
    reader = Workflow.read(LADDER | {"software": "venv"}, [])
    needs = reader.plan.targets()
    assert len(needs["ladder"]["train"]) == 12 and needs["ladder"]["jobs"] == []
    assert needs["bases"]["train"] == needs["ita"]["train"] == ["ita"]
    assert len(needs["all"]["train"]) == 13


def test_rungs_are_no_models() -> None:
    """They are not converted, scored or sampled."""
    reader = Workflow.read(LADDER | {"software": "venv"}, [])
    assert reader.models.made == ["ita"]
    assert not any("ladder-" in path for path in reader.evaluation.scores())
    ladder = [path for path in reader.report.evidence() if "ladder" in path]
    assert ladder == ["<results>/ladder/manifest.json"]


def test_a_configuration_without_a_ladder_says_so() -> None:
    config = {key: value for key, value in LADDER.items() if key != "ladder"}
    reader = Workflow.read(config | {"software": "venv"}, [])
    with pytest.raises(SystemExit, match="no section `ladder`"):
        reader.ladder.rungs(SimpleNamespace())
    assert reader.report.ladder() == [] and "ladder" not in reader.plan.targets()


PROBLEMS = [
    (with_ladder(model="itta"), "ladder.model: unknown model 'itta'; did you mean 'ita'?"),
    (with_ladder(tokens=[102400, 204800]), "ladder.tokens: found 2 budgets of tokens, expected 3"),
    (with_ladder(sizes={"xs": None, "m": None}), "ladder.sizes: found 2 sizes, expected 3 or more"),
    (with_ladder(sizes={"t": SMALL}), "ladder.sizes.t: 105,840 parameters, as many as 's'"),
    (
        with_ladder(sizes={"t": {"hidden_size": 400}}),
        "expected at most the 730,352 of the model 'ita', whose loss is predicted",
    ),
    (
        with_ladder(tokens=[102400, 204800, 1_000_000]),
        "ladder.tokens: found 1,000,000, expected at most the 819,200 of the model 'ita'",
    ),
    (
        with_ladder(tokens=[102400, 204800, 819_200], sizes={"t": {"init_std": 0.1}}),
        "a rung is as large as the model 'ita' and trains as long; expected less",
    ),
    (with_ladder(tokens=[500, 102400, 204800]), "found 500, expected a step's 1,024 or more"),
    (
        with_ladder(tokens=[102400, 102401, 204800, 409600]),
        "ladder.tokens: 102,400 and 102,401 are the same 100 steps",
    ),
    (
        with_ladder(sizes={"t": {"hidden_size": 50}}),
        "ladder.sizes.t: model.model_config.hidden_size: found 50, expected an even multiple",
    ),
    (with_ladder(sizes={"t": {"width": 50}}), "ladder.sizes.t: unknown key 'width'"),
]


@pytest.mark.parametrize(("config", "message"), PROBLEMS, ids=[text for _, text in PROBLEMS])
def test_problems(config: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        check_config(config, "ladder.yaml")
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("ita-fra", "'ita-fra' starts from other weights, expected one trained from scratch"),
        ("nesso-instruct", "'nesso-instruct' is no base model"),
    ],
)
def test_models_without_a_law(model: str, message: str) -> None:
    config = read_config("config/test.yaml")
    sizes = {name: {"num_hidden_layers": count} for count, name in enumerate("abc", 1)}
    config["ladder"] = {"model": model, "tokens": [1024 * 10, 1024 * 20, 1024 * 40], "sizes": sizes}
    with pytest.raises(InputError, match=message):
        check_config(config, "test.yaml")


def test_the_shipped_ladder_is_whole() -> None:
    check_config(LADDER, "config/ladder.yaml")
