"""Recipes against Axolotl's own schema."""

from pathlib import Path

import pytest
import yaml

from zagreus.errors import InputError
from zagreus.posttraining.environment import prepare
from zagreus.posttraining.recipe import check_recipe, fill_in, load_recipe, share_batch

RECIPES = Path("recipes/posttrain")
CPU = {"bf16": False, "fp8": False, "tf32": False, "n_gpu": 1, "compute_capability": None}
H100 = {"bf16": True, "fp8": True, "tf32": True, "n_gpu": 8, "compute_capability": "sm_90"}


@pytest.fixture(scope="module", autouse=True)
def _offline(tmp_path_factory: pytest.TempPathFactory) -> None:
    prepare(tmp_path_factory.mktemp("cache"), {})


def check(recipe: dict, capabilities: dict = CPU) -> list[str]:
    """Check a recipe, filled in as the rule does it."""
    return check_recipe(fill_in(recipe, Path("base"), Path("rows.jsonl"), Path("work")), "recipe.yaml", capabilities)


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_recipe_is_accepted(path: Path) -> None:
    published = path.stem == "open_zagreus_sft"
    notes = check(load_recipe(path), H100 if published else CPU)
    assert len(notes) == (4 if published else 0)


def test_the_published_recipe_is_as_published() -> None:
    reference = Path("../shared/reference/sft_open_zagreus.axolotl.yaml")
    if not reference.exists():
        pytest.skip(f"{reference} is not here")
    assert load_recipe(RECIPES / "open_zagreus_sft.yaml") == yaml.safe_load(reference.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"num_epoch": 3}, "unknown key 'num_epoch', did you mean 'num_epochs'?"),
        (
            {"datasets": [{"type": "chat_template", "role_to_train": ["assistant"]}]},
            "unknown key 'datasets[0].role_to_train', did you mean 'roles_to_train'?",
        ),
        ({"fsdp_config": {"fsdp_shard": True}}, "unknown key 'fsdp_config.fsdp_shard'"),
        ({"special_tokens": {"end": "<|im_end|>"}}, "unknown key 'special_tokens.end'"),
        ({"zzzzqqqq": 1}, "unknown key 'zzzzqqqq' in Axolotl's schema"),
    ],
)
def test_an_unknown_key_is_named_in_one_line(change: dict, words: str) -> None:
    with pytest.raises(InputError) as raised:
        check({**load_recipe(RECIPES / "test_sft.yaml"), **change})
    assert words in str(raised.value)
    assert str(raised.value).startswith("recipe.yaml: ")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("change", [{"num_epochs": "many"}, {"optimizer": 7}, {"rl": "dpo", "sample_packing": True}])
def test_a_refused_value_is_one_line(change: dict) -> None:
    with pytest.raises(InputError, match="Axolotl refuses") as raised:
        check({**load_recipe(RECIPES / "test_sft.yaml"), **change})
    assert "\n" not in str(raised.value)


def test_files_that_are_no_recipes(tmp_path: Path) -> None:
    for text, words in (("a: [", "not YAML"), ("- 1", "must be a mapping"), ("seed: 1", "a list 'datasets'")):
        (tmp_path / "recipe.yaml").write_text(text, encoding="utf-8")
        with pytest.raises(InputError, match=words):
            load_recipe(tmp_path / "recipe.yaml")
    with pytest.raises(InputError, match="no such recipe"):
        load_recipe(tmp_path / "absent.yaml")


def test_the_batch_is_the_same_whatever_the_number_of_processes() -> None:
    recipe = load_recipe(RECIPES / "open_zagreus_sft.yaml")  # 8 accumulated
    shared = {processes: share_batch(recipe, 8, processes, "x")["gradient_accumulation_steps"] for processes in (1, 8, 16, 64)}
    assert shared == {1: 64, 8: 8, 16: 4, 64: 1}
    with pytest.raises(InputError, match="x: 3 processes cannot share 64 micro batches of 1 a step evenly; these numbers can: 1, 2, 4, 8"):
        share_batch(recipe, 8, 3, "x")
