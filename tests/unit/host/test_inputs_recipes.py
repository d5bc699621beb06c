"""Every number of a pre-training recipe has its range.

A size that no memory holds is said before anything is allocated.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from zagreus.config.yaml_file import read_mapping
from zagreus.errors import InputError
from zagreus.posttraining.recipe_file import load_recipe
from zagreus.recipe.cost import parameters
from zagreus.recipe.memory import least_memory, require_memory
from zagreus.recipe.ranges import RANGES, Range, check_ranges
from zagreus.recipe.read import read_recipe
from zagreus.recipe.schema import Recipe
from zagreus.recipe.strict import build

ROOT = Path(__file__).parents[3]
SHARED = ROOT.parent / "shared"
DEMO = read_mapping(ROOT / "recipes/pretrain/demo.yaml")


def written(folder: Path, key_path: str, value: Any) -> Path:
    """Write the demo's recipe with one value replaced, and return the file."""
    recipe = copy.deepcopy(DEMO)
    *sections, key = key_path.split(".")
    inner: Any = recipe
    for section in sections:
        inner = inner[int(section)] if isinstance(inner, list) else inner.setdefault(section, {})
    inner[key] = value
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return path


def message(path: Path) -> str:
    """Return what is said of a recipe."""
    with pytest.raises(InputError) as raised:
        read_recipe(path)
    assert "\n" not in str(raised.value)
    return str(raised.value)


SCHEDULER = "optimizer.learning_rate_scheduler"
ROWS = [
    (f"{SCHEDULER}.learning_rate", -0.1, "expected above 0 to 1"),
    (f"{SCHEDULER}.learning_rate", 0.0, "expected above 0 to 1"),
    (f"{SCHEDULER}.learning_rate", 1000.0, "found 1000.0, expected above 0 to 1"),
    (f"{SCHEDULER}.min_decay_lr", 0.1, "expected at most the learning_rate (0.005)"),
    (f"{SCHEDULER}.min_decay_lr", -0.1, "expected from 0 to 1"),
    (f"{SCHEDULER}.lr_decay_steps", -5, "lr_decay_steps: found -5, expected at least 0"),
    (f"{SCHEDULER}.lr_warmup_steps", -1, "lr_warmup_steps: found -1"),
    (f"{SCHEDULER}.lr_decay_starting_step", -1, "lr_decay_starting_step: found -1"),
    (
        "optimizer.optimizer_factory.adam_beta1",
        1.5,
        "adam_beta1: found 1.5, expected from 0 to below 1",
    ),
    ("optimizer.optimizer_factory.adam_beta2", 1.0, "adam_beta2: found 1.0"),
    (
        "optimizer.optimizer_factory.adam_eps",
        -1.0e-8,
        "adam_eps: found -1e-08, expected a number above 0",
    ),
    ("optimizer.clip_grad", 0.0, "clip_grad: found 0.0, expected a number above 0"),
    ("optimizer.clip_grad", -1.0, "clip_grad: found -1.0"),
    ("optimizer.weight_decay", -0.1, "weight_decay: found -0.1, expected at least 0"),
    ("model.init_method.std", 0.0, "std: found 0.0, expected a number above 0"),
    ("model.init_method.std", -1.0, "std: found -1.0"),
    ("model.model_config.hidden_size", 0, "hidden_size: found 0, expected at least 1"),
    ("model.model_config.hidden_size", -128, "hidden_size: found -128"),
    ("model.model_config.intermediate_size", 0, "intermediate_size: found 0"),
    ("model.model_config.num_hidden_layers", 0, "num_hidden_layers: found 0"),
    ("model.model_config.rope_theta", -1.0, "rope_theta: found -1.0"),
    ("model.model_config.rms_norm_eps", 0.0, "rms_norm_eps: found 0.0"),
    ("model.model_config.vocab_size", 0, "vocab_size: found 0"),
    ("model.model_config.vocab_size", -2, "vocab_size: found -2"),
    ("general.seed", 2**70, "general.seed: found 1180591620717411303424"),
    ("general.seed", -1, "general.seed: found -1"),
    ("data_stages.0.data.seed", -1, "data_stages[0].data.seed: found -1"),
    ("tokens.train_steps", 0, "train_steps: found 0"),
    ("tokens.micro_batch_size", 1.0, "micro_batch_size: found 1.0, expected a whole number"),
    ("tokens.val_check_interval", -2, "val_check_interval: found -2"),
    ("zagreus.loss_limit", -3.0, "loss_limit: found -3.0"),
    ("zagreus.rolling_saves", 0, "rolling_saves: found 0"),
]


@pytest.mark.parametrize(
    ("key_path", "value", "expected"), ROWS, ids=lambda value: str(value)[-30:]
)
def test_a_number_out_of_its_range(
    tmp_path: Path, key_path: str, value: Any, expected: str
) -> None:
    said = message(written(tmp_path, key_path, value))
    assert expected in said and key_path.split(".")[-1] in said


@pytest.mark.parametrize(
    "key_path", sorted(path for path in RANGES if not path.startswith("zagreus"))
)
def test_no_number_may_be_nan_or_infinite(tmp_path: Path, key_path: str) -> None:
    for value in (float("nan"), float("inf"), float("-inf")):
        said = message(written(tmp_path, key_path, value))
        assert "expected a finite number" in said


def test_a_range_in_words() -> None:
    assert str(Range(0, low_open=True)) == "a number above 0" and str(Range(1)) == "at least 1"
    assert not Range(0).holds(float("nan")) and not Range(0).holds(float("inf"))


def test_a_key_twice_and_a_file_in_another_encoding(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(DEMO) + "\ntokens: {}\n")
    assert "the key 'tokens' stands there twice" in message(path)
    path.write_bytes("# titolo: perché\n".encode("latin-1") + yaml.safe_dump(DEMO).encode())
    assert "line 1: byte 0xe9 is no UTF-8" in message(path)
    path.write_bytes(bytes(range(256)))
    assert "is no UTF-8" in message(path)


@pytest.mark.parametrize(
    "path", sorted((ROOT / "recipes/pretrain").glob("*.yaml")), ids=lambda path: path.name
)
def test_every_shipped_recipe_is_within_the_ranges(path: Path) -> None:
    read_recipe(path)


def test_recipes_of_nanotron_are_within_the_ranges() -> None:
    present = sorted((SHARED / "vectors/nanotron").glob("r[0-9].yaml"))
    if not present:
        pytest.skip("no ../shared here: recipes that nanotron itself ran")
    for path in present:
        check_ranges(build(Recipe, read_mapping(path), path.name), path.name)


@pytest.mark.parametrize(
    ("key_path", "value"),
    [
        ("model.model_config.num_hidden_layers", 10**6),
        ("model.model_config.hidden_size", 2**20),
        ("model.model_config.vocab_size", 10**9),
    ],
)
def test_a_size_that_no_memory_holds(tmp_path: Path, key_path: str, value: int) -> None:
    recipe = copy.deepcopy(DEMO)
    recipe["model"]["model_config"]["vocab_size"] = 16384
    path = tmp_path / "recipe.yaml"
    inner: Any = recipe
    for section in key_path.split(".")[:-1]:
        inner = inner[section]
    inner[key_path.split(".")[-1]] = value
    path.write_text(yaml.safe_dump(recipe))
    with pytest.raises(
        InputError,
        match=r"million parameters, .* needs at least .* GB in 1 process, this machine has 64.0 GB",
    ):
        require_memory(read_recipe(path), str(path), 1, 1, available=64_000_000_000)
    require_memory(
        read_recipe(written(tmp_path, "model.model_config.vocab_size", 16384)),
        "recipe",
        2,
        2,
        available=2_000_000_000,
    )


def test_zero_1_shares_the_states_of_the_optimizer(tmp_path: Path) -> None:
    whole = least_memory(read_recipe(written(tmp_path, "optimizer.zero_stage", 0)), 16384, 8)
    recipe = read_recipe(written(tmp_path, "optimizer.zero_stage", 1))
    states = 8 * parameters(recipe.model.model_config, 16384)
    assert whole - least_memory(recipe, 16384, 8) == states * 7 / 8


def test_accumulation_and_ranks_do_not_make_a_micro_batch(tmp_path: Path) -> None:
    one = least_memory(
        read_recipe(written(tmp_path, "tokens.batch_accumulation_per_replica", 4)), 16384, 1
    )
    assert (
        least_memory(
            read_recipe(written(tmp_path, "tokens.batch_accumulation_per_replica", 400)), 16384, 1
        )
        == one
    )
    assert (
        least_memory(read_recipe(written(tmp_path, "tokens.micro_batch_size", 64)), 16384, 1) > one
    )


SFT = read_mapping(ROOT / "recipes/posttrain/demo_sft.yaml")


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("learning_rate", -1.0e-3, "found -0.001, expected above 0 to 1"),
        ("learning_rate", 1000, "found 1000, expected above 0 to 1"),
        ("learning_rate", "fast", "found 'fast', expected above 0 to 1"),
        ("learning_rate", "nan", "found 'nan'"),
        ("learning_rate", True, "found True"),
        ("micro_batch_size", 0, "found 0, expected a whole number, at least 1"),
        ("micro_batch_size", 2.0, "found 2.0, expected a whole number"),
        ("gradient_accumulation_steps", -8, "found -8"),
        ("num_epochs", 0, "found 0, expected a number above 0"),
        ("sequence_len", 0, "found 0, expected a whole number, at least 1"),
        ("weight_decay", -0.1, "found -0.1, expected at least 0"),
        ("adam_beta2", 1.5, "found 1.5, expected from 0 to below 1"),
        ("max_grad_norm", -1.0, "found -1.0"),
        ("warmup_ratio", 1.5, "found 1.5, expected from 0 to 1"),
        ("rl_beta", 0, "found 0, expected a number above 0"),
        ("val_set_size", -5, "found -5"),
        ("save_steps", 0, "found 0"),
        ("seed", 2**70, "found 1180591620717411303424"),
    ],
)
def test_a_number_of_a_stage_out_of_its_range(
    tmp_path: Path, key: str, value: Any, expected: str
) -> None:
    path = tmp_path / "stage.yaml"
    path.write_text(yaml.safe_dump(SFT | {key: value}))
    with pytest.raises(InputError) as raised:
        load_recipe(path)
    assert f"{path}: {key}: {expected}" in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "change",
    [
        {"learning_rate": "2e-5"},
        {"save_steps": 0.1},
        {"max_grad_norm": 0},
        {"val_set_size": 0},
        {"max_steps": -1},
    ],
)
def test_what_axolotl_reads_is_read(tmp_path: Path, change: dict[str, Any]) -> None:
    path = tmp_path / "stage.yaml"
    path.write_text(yaml.safe_dump(SFT | change))
    assert load_recipe(path) == SFT | change


def test_all_numbers_out_of_their_ranges_are_said_at_once(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(SFT | {"seed": -1, "num_epochs": 0}))
    with pytest.raises(
        InputError, match=r"2 problems: \(1\) num_epochs: found 0, .*; \(2\) seed: found -1"
    ):
        load_recipe(path)
    recipe = copy.deepcopy(DEMO)
    recipe["general"]["seed"], recipe["optimizer"]["clip_grad"] = -1, 0.0
    path.write_text(yaml.safe_dump(recipe))
    assert "2 problems: (1) general.seed: found -1" in message(path)
