"""Recipes against Axolotl's own schema."""

from pathlib import Path

import pytest
import yaml

from zagreus.errors import InputError
from zagreus.posttraining.attention import available
from zagreus.posttraining.capabilities import machine_capabilities
from zagreus.posttraining.distillation.recipe_file import load_distillation
from zagreus.posttraining.environment import prepare
from zagreus.posttraining.recipe import (
    check_recipe,
    fill_in,
    for_this_image,
    load_recipe,
    share_batch,
)
from zagreus.posttraining.recipe_file import validation_rows

RECIPES = Path("recipes/posttrain")
CPU = {"bf16": False, "fp8": False, "tf32": False, "n_gpu": 1, "compute_capability": None}
H100 = {"bf16": True, "fp8": True, "tf32": True, "n_gpu": 8, "compute_capability": "sm_90"}


@pytest.fixture(scope="module", autouse=True)
def _offline(tmp_path_factory: pytest.TempPathFactory) -> None:
    prepare(tmp_path_factory.mktemp("cache"), {})


def check(recipe: dict, capabilities: dict = CPU) -> list[str]:
    """Check a recipe, filled in as the rule does it."""
    return check_recipe(
        fill_in(recipe, Path("base"), Path("rows.jsonl"), Path("work")), "recipe.yaml", capabilities
    )


DISTILLATIONS = sorted(RECIPES.glob("*_distill.yaml"))  # TRL's schema; the others are Axolotl's


@pytest.mark.parametrize("path", DISTILLATIONS, ids=lambda path: path.stem)
def test_every_shipped_distillation_is_accepted(path: Path) -> None:
    assert load_distillation(path)["max_completion_length"] > 0


@pytest.mark.parametrize(
    "path", sorted({*RECIPES.glob("*.yaml")} - {*DISTILLATIONS}), ids=lambda path: path.stem
)
def test_every_shipped_recipe_is_accepted(path: Path) -> None:
    published = "zagreus" in path.stem
    notes = check(load_recipe(path), H100 if published else CPU)
    assert len(notes) == (4 if published else 0)


def test_the_published_recipe_is_as_published() -> None:
    reference = Path("../shared/reference/sft_open_zagreus.axolotl.yaml")
    if not reference.exists():
        pytest.skip(f"{reference} is not here")
    assert load_recipe(RECIPES / "open_zagreus_sft.yaml") == yaml.safe_load(
        reference.read_text(encoding="utf-8")
    )


def test_the_agentic_recipe_differs_in_its_rows_alone() -> None:
    """The published recipe holds out 10,000 rows; `agentic` has 5,673."""
    published, own = (
        load_recipe(RECIPES / f"{name}.yaml")
        for name in ("open_zagreus_sft", "zagreus_agentic_sft")
    )
    assert {key for key in published if published[key] != own[key]} == {
        "val_set_size"
    } and published.keys() == own.keys()
    assert validation_rows(own["val_set_size"], 5673, "x") < 5673
    with pytest.raises(
        InputError,
        match="x: val_set_size 10000 sets 10,000 of 5,673 rows apart and leaves none to train on",
    ):
        validation_rows(published["val_set_size"], 5673, "x")


@pytest.mark.parametrize(
    ("share", "rows", "fits"),
    [
        (0, 1, True),
        (None, 1, True),
        (0.05, 20, True),
        (1, 2, True),
        (1, 1, False),
        (10, 10, False),
        (0.99, 10, False),
        (-1, 10, False),
    ],
)
def test_a_stage_keeps_rows_to_train_on(share: float | None, rows: int, fits: bool) -> None:
    if fits:
        assert validation_rows(share, rows, "x") < rows
        return
    with pytest.raises(InputError, match="x: val_set_size"):
        validation_rows(share, rows, "x")


NOTE = "attention: sdpa; published: flash_attention; packed rows are kept apart by positions"


def test_the_published_recipe_can_be_loaded_in_the_image() -> None:
    """On GPUs without FlashAttention: sdpa, said once; and Axolotl accepts what comes out."""
    recipe, notes = for_this_image(load_recipe(RECIPES / "open_zagreus_sft.yaml"), "x", gpu=True)
    assert (
        notes == [NOTE]
        and recipe["attn_implementation"] == "sdpa"
        and "flash_attention" not in recipe
    )
    assert "fsdp_config" in recipe  # fp32 masters, for one process too
    assert not [note for note in check(recipe, H100) if "attention" in note]


def test_without_a_gpu_fsdp_goes() -> None:
    recipe, notes = for_this_image(load_recipe(RECIPES / "open_zagreus_sft.yaml"), "x", gpu=False)
    assert (
        not [key for key in recipe if "fsdp" in key]
        and len(notes) == 3
        and "FSDP needs a GPU" in notes[1]
    )
    assert (recipe["bf16"], recipe["fp16"]) == (False, False) and "fp32 on a CPU" in notes[2]
    demo = load_recipe(RECIPES / "demo_sft.yaml")
    assert for_this_image(demo, "x", gpu=False) == (demo, [])


@pytest.mark.parametrize(
    ("attention", "packages", "kept"),
    [
        ({"flash_attention": True}, {"flash-attn"}, True),
        ({"flash_attention": True}, {"torch"}, False),
        ({"attn_implementation": "flash_attention_2"}, set(), False),
        ({"attn_implementation": "flash_attention_3"}, {"flash-attn"}, False),
        (
            {"attn_implementation": "kernels-community/flash-attn2"},
            {"kernels"},
            False,
        ),  # it needs a network
        ({"attn_implementation": "sdpa"}, set(), True),
        ({"attn_implementation": "flex_attention"}, set(), True),
        ({"flash_attention": False, "sdp_attention": True}, set(), True),
        ({}, set(), True),
    ],
)
def test_flash_attention_where_it_can_be_had(
    attention: dict, packages: set[str], kept: bool
) -> None:
    recipe, note = available(attention, packages, "x")
    assert (
        (recipe == attention and not note)
        if kept
        else (recipe["attn_implementation"] == "sdpa" and "sdpa; published" in note)
    )


@pytest.mark.parametrize(
    "attention", [{"xformers_attention": True}, {"attn_implementation": "sage"}]
)
def test_another_attention_is_not_replaced(attention: dict) -> None:
    with pytest.raises(
        InputError, match="x: .* needs the package .*, which the image does not have"
    ):
        available(attention, set(), "x")


def test_the_launcher_itself_asks_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CUDA context of the launcher keeps the first rank out where GPUs are exclusive."""
    import torch

    def forbidden(*_: object) -> None:
        raise AssertionError("the launcher asked the driver")

    monkeypatch.setattr("torch.cuda.get_device_properties", forbidden)
    monkeypatch.setattr("torch.cuda.get_device_capability", forbidden)
    monkeypatch.setattr("axolotl.cli.config.gpu_capabilities", forbidden)
    check_recipe(
        fill_in(
            load_recipe(RECIPES / "test_sft.yaml"), Path("base"), Path("rows.jsonl"), Path("work")
        ),
        "recipe.yaml",
    )
    assert not torch.cuda.is_initialized()


def test_capabilities_come_from_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a GPU in /dev that torch cannot use.

    That process answers as Axolotl does without one.
    """
    monkeypatch.setattr("zagreus.posttraining.capabilities.has_gpu", lambda: True)
    assert machine_capabilities() == CPU


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


@pytest.mark.parametrize(
    "change", [{"num_epochs": "many"}, {"optimizer": 7}, {"rl": "dpo", "sample_packing": True}]
)
def test_a_refused_value_is_one_line(change: dict) -> None:
    with pytest.raises(InputError, match="Axolotl refuses") as raised:
        check({**load_recipe(RECIPES / "test_sft.yaml"), **change})
    assert "\n" not in str(raised.value)


def test_files_that_are_no_recipes(tmp_path: Path) -> None:
    for text, words in (
        ("a: [", "not YAML"),
        ("- 1", "expected a mapping"),
        ("seed: 1", "a list 'datasets'"),
    ):
        (tmp_path / "recipe.yaml").write_text(text, encoding="utf-8")
        with pytest.raises(InputError, match=words):
            load_recipe(tmp_path / "recipe.yaml")
    with pytest.raises(InputError, match="no such recipe"):
        load_recipe(tmp_path / "absent.yaml")


def test_the_batch_is_the_same_whatever_the_number_of_processes() -> None:
    recipe = load_recipe(RECIPES / "open_zagreus_sft.yaml")  # 8 accumulated
    shared = {
        processes: share_batch(recipe, 8, processes, "x")["gradient_accumulation_steps"]
        for processes in (1, 8, 16, 64)
    }
    assert shared == {1: 64, 8: 8, 16: 4, 64: 1}
    with pytest.raises(
        InputError,
        match=(
            "x: 3 processes cannot share 64 micro batches of 1 a step evenly; these numbers "
            "can: 1, 2, 4, 8"
        ),
    ):
        share_batch(recipe, 8, 3, "x")
