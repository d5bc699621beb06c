"""Recipes are read strictly: what is misspelt, of the wrong type or not implemented is named by its
path in the file.
"""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from zagreus.errors import InputError
from zagreus.recipe.read import (
    check,
    check_mixture,
    check_steps,
    fingerprint,
    ignored,
    read_recipe,
    recipe_slice,
    resolved,
    write_recipe,
)
from zagreus.recipe.schema import Recipe, Scheduler
from zagreus.recipe.strict import build, plain
from zagreus.training.segment import shared_among

SHIPPED = sorted(Path("recipes/pretrain").glob("*.yaml"))
PUBLISHED = Path("../shared/reference/pretrain_zagreus_ita.nanotron.yaml")


def content(name: str = "demo") -> dict[str, Any]:
    return yaml.safe_load(Path(f"recipes/pretrain/{name}.yaml").read_text())


def key_paths(value: Any, path: tuple = ()) -> list[tuple]:
    """Every key of a nested mapping, as the way to it."""
    paths = []
    for key, inner in (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    ):
        paths += [(*path, key)] if isinstance(key, str) else []
        paths += key_paths(inner, (*path, key))
    return paths


def put(value: Any, path: tuple, key: str, new: Any) -> None:
    for part in path:
        value = value[part]
    value[key] = new


def read(value: dict[str, Any], tmp_path: Path) -> Recipe:
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(value))
    return read_recipe(file)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_recipes_are_read_and_written_whole(path: Path, tmp_path: Path) -> None:
    recipe = read_recipe(path)
    write_recipe(recipe, tmp_path / "again.yaml")
    assert read_recipe(tmp_path / "again.yaml") == recipe


@pytest.mark.skipif(not PUBLISHED.exists(), reason=f"no {PUBLISHED}")
def test_zagreus_has_the_published_values() -> None:
    published, ours = yaml.safe_load(PUBLISHED.read_text()), content("zagreus")
    places = {
        ("checkpoints", "checkpoints_path"),
        ("checkpoints", "resume_checkpoint_path"),
        ("tokenizer", "tokenizer_name_or_path"),
        ("data_stages", 0, "data", "dataset", "dataset_folder"),
        ("data_stages", 0, "data", "dataset", "dataset_weights"),
    }
    for path in key_paths(published):
        if path in places:
            continue
        there, here = published, ours
        for part in path:
            there, here = there[part], here[part]
        assert isinstance(there, (dict, list)) or there == here, path
    assert build(Recipe, published, "published").global_batch_size == 256


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_misspelt_key_is_named(data: st.DataObject) -> None:
    value = copy.deepcopy(content(data.draw(st.sampled_from(["demo", "zagreus"]))))
    path = data.draw(st.sampled_from(key_paths(value)))
    right = path[-1]
    at = data.draw(st.integers(0, len(right) - 1))
    wrong = data.draw(
        st.sampled_from(
            [
                right[:at] + right[at + 1 :],
                right[:at] + "x" + right[at:],
                right.upper(),
                right + "s",
            ]
        )
    )
    inner = value
    for part in path[:-1]:
        inner = inner[part]
    if wrong in inner or not wrong or wrong == right:
        return
    inner[wrong] = inner.pop(right)
    with pytest.raises(InputError) as error:
        build(Recipe, value, "recipe.yaml")
    key_path = "".join(
        f"[{part}]" if isinstance(part, int) else f".{part}" for part in (*path[:-1], wrong)
    ).removeprefix(".")
    message = str(error.value)
    assert message.startswith(f"recipe.yaml: {key_path}: unknown key") and "\n" not in message


@settings(max_examples=60, deadline=None)
@given(
    path=st.sampled_from(key_paths(content())),
    wrong=st.sampled_from(["text", 1.5, [[]], {"a": 1}, -3, None]),
)
def test_a_wrong_value_is_an_input_error_or_accepted_never_a_crash(path: tuple, wrong: Any) -> None:
    value = copy.deepcopy(content())
    put(value, path[:-1], path[-1], wrong)
    try:
        check(build(Recipe, value, "recipe.yaml"), "recipe.yaml")
    except InputError as error:
        assert str(error).startswith("recipe.yaml: ") and "\n" not in str(error)


@pytest.mark.parametrize(
    ("path", "new", "message"),
    [
        (("parallelism", "pp"), 2, "parallelism.pp: found 2, expected 1"),
        (("parallelism", "tp"), 8, "parallelism.tp: found 8"),
        (("parallelism", "dp"), 0, "parallelism.dp: found 0, expected at least 1"),
        (("optimizer", "zero_stage"), 2, "optimizer.zero_stage: found 2, expected 0 or 1"),
        (
            ("optimizer", "optimizer_factory", "name"),
            "sgd",
            "optimizer.optimizer_factory.name: found 'sgd', expected one of: adamW",
        ),
        (
            ("optimizer", "learning_rate_scheduler", "lr_decay_style"),
            "wsd",
            "lr_decay_style: found 'wsd'",
        ),
        (
            ("optimizer", "weight_decay"),
            "1e-2",
            "optimizer.weight_decay: found '1e-2', expected a number (YAML reads 1e-5 as text",
        ),
        (
            ("model", "dtype"),
            "float16",
            "model.dtype: found 'float16', expected one of: float32, bfloat16",
        ),
        (
            ("model", "model_config", "z_loss_enabled"),
            True,
            "model.model_config.z_loss_enabled: found true",
        ),
        (
            ("model", "model_config", "is_llama_config"),
            False,
            "model.model_config.is_llama_config: found false",
        ),
        (
            ("model", "model_config", "num_key_value_heads"),
            3,
            "num_key_value_heads: found 3, expected a divisor",
        ),
        (
            ("model", "model_config", "hidden_size"),
            130,
            "hidden_size: found 130, expected an even multiple",
        ),
        (
            ("model", "init_method"),
            {"use_mup": True},
            "model.init_method.use_mup: not implemented; give std",
        ),
        (
            ("model", "init_method"),
            {"path": "/somewhere"},
            "model.init_method.path: give std: another model to start from",
        ),
        (
            ("model", "model_config", "is_qwen2_config"),
            True,
            "model.model_config.is_qwen2_config: only a Llama is implemented",
        ),
        (
            ("optimizer", "optimizer_factory"),
            {"name": "sgd"},
            "optimizer.optimizer_factory.name: found 'sgd', expected one of: adamW",
        ),
        (
            ("data_stages", 0, "data", "dataset"),
            {"hf_dataset_or_datasets": "a"},
            "data.dataset.hf_dataset_or_datasets: text is tokenized",
        ),
        (("metrics_logging",), {"log_level": 1}, "metrics_logging.log_level: found 1, expected 0"),
        (
            ("checkpoints", "resume_checkpoint_path"),
            "/somewhere",
            "checkpoints.resume_checkpoint_path: found",
        ),
        (("data_stages",), [], "data_stages: found 0 stages"),
        (("data_stages", 0, "start_training_step"), 5, "expected one at step 1"),
        (
            ("data_stages", 0, "data", "dataset"),
            None,
            "data_stages[0].data.dataset: found null, expected a mapping",
        ),
        (
            ("data_stages", 0, "data", "dataset", "dataset_weights"),
            [0.5],
            "found 1 weights, expected one for each of 0 folders",
        ),
        (("lighteval",), {"a": 1}, "lighteval: found"),
        (("tokens",), None, "tokens: found null, expected a mapping"),
    ],
)
def test_what_is_not_implemented_is_named(
    path: tuple, new: Any, message: str, tmp_path: Path
) -> None:
    value = content()
    put(value, path[:-1], path[-1], new)
    with pytest.raises(InputError) as error:
        read(value, tmp_path)
    assert message in str(error.value) and str(error.value).startswith(f"{tmp_path}/recipe.yaml: ")


@pytest.mark.parametrize(
    ("old", "folders", "weights"),
    [
        ({"dataset_path": "/a"}, ["/a"], None),
        ({"dataset_path": ["/a", "/b"]}, ["/a", "/b"], None),
        ({"dataset_path": {"/a": 0.25, "/b": 0.75}}, ["/a", "/b"], [0.25, 0.75]),
        ({"dataset_folder": {"/a": 1, "/b": 3}}, ["/a", "/b"], [1.0, 3.0]),
    ],
)
def test_older_spellings_of_the_data_set(
    old: dict, folders: list[str], weights: list[float] | None, tmp_path: Path
) -> None:
    value = content()
    value["data_stages"][0]["data"]["dataset"] = old
    dataset = read(value, tmp_path).data_stages[0].data.dataset
    assert dataset.folders == folders and dataset.dataset_weights == weights


# nanotron's schema for a Llama at 2411b02: every key, as its dataclasses name them.
SCHEMA = {
    "general": (
        "project run seed step consumed_train_samples benchmark_csv_path ignore_sanity_checks"
    ),
    "parallelism": (
        "dp pp tp pp_engine tp_mode tp_linear_async_communication recompute_layer "
        "tp_recompute_allgather expert_parallel_size context_parallel_size"
    ),
    "model": "model_config init_method dtype make_vocab_size_divisible_by ddp_bucket_cap_mb",
    "model.model_config": (
        "bos_token_id eos_token_id hidden_act hidden_size initializer_range intermediate_size "
        "is_llama_config max_position_embeddings num_attention_heads num_hidden_layers "
        "num_key_value_heads attention_bias pad_token_id pretraining_tp rms_norm_eps "
        "rope_scaling rope_theta rope_interleaved tie_word_embeddings use_cache vocab_size "
        "_attn_implementation z_loss_enabled z_loss_coefficient"
    ),
    "model.init_method": "std scaling_method",
    "tokenizer": "tokenizer_name_or_path tokenizer_revision tokenizer_max_length",
    "checkpoints": (
        "checkpoints_path checkpoint_interval save_initial_state save_final_state "
        "resume_checkpoint_path load_lr_scheduler load_optimizer "
        "checkpoints_path_is_shared_file_system"
    ),
    "logging": "log_level log_level_replica iteration_step_info_interval",
    "metrics_logging": "log_level log_detail_interval",
    "tokens": (
        "sequence_length train_steps micro_batch_size batch_accumulation_per_replica "
        "val_check_interval limit_val_batches limit_test_batches"
    ),
    "optimizer": (
        "optimizer_factory zero_stage weight_decay clip_grad accumulate_grad_in_fp32 "
        "weight_decay_exclude_named_params learning_rate_scheduler"
    ),
    "optimizer.optimizer_factory": "name adam_eps adam_beta1 adam_beta2 torch_adam_is_fused",
    "optimizer.learning_rate_scheduler": (
        "learning_rate lr_warmup_steps lr_warmup_style lr_decay_style lr_decay_steps "
        "lr_decay_starting_step min_decay_lr"
    ),
    "data_stages.0": "name start_training_step sequence_length data",
    "data_stages.0.data": "dataset seed num_loading_workers",
    "data_stages.0.data.dataset": (
        "dataset_folder dataset_weights dataset_read_path tokenizer_name vocab_size "
        "token_size_in_bytes return_positions skip_in_stream pad_samples_to_global_batch_size "
        "dataset_max_tokens shuffle_files use_old_brrr_dataloader"
    ),
    "": "profiler lighteval s3_upload bench",
}


@pytest.mark.parametrize("null", [False, True])
def test_every_key_of_nanotrons_schema_is_known(null: bool, tmp_path: Path) -> None:
    """With the value it has, and with null wherever nanotron has a default for it."""
    recipe = read_recipe("recipes/pretrain/demo.yaml")
    whole = plain(recipe)
    value = copy.deepcopy(content()) if null else {}
    for section, keys in SCHEMA.items():
        there, here = whole, value
        for part in filter(None, section.split(".")):
            there = there[int(part) if part.isdecimal() else part]
            here = here[int(part)] if part.isdecimal() else here.setdefault(part, {})
        for key in keys.split():
            assert key in there, f"{section}.{key}"
            if null:
                here.setdefault(key, None)
            elif not isinstance(there[key], (dict, list)) or key in (
                "dataset_folder",
                "dataset_weights",
            ):
                here[key] = there[key]
        if section == "optimizer" and not null:
            value["data_stages"] = [{}]
    assert read(value, tmp_path) == recipe


def test_what_nanotron_has_defaults_for_may_be_left_out_and_names_have_any_case(
    tmp_path: Path,
) -> None:
    value = content()
    del value["tokenizer"], value["optimizer"]["optimizer_factory"]["name"]
    value["model"]["model_config"] = {"is_llama_config": True}
    value["model"]["init_method"]["scaling_method"] = "num_layers"
    value["parallelism"]["tp_mode"] = "reduce_scatter"
    recipe = read(value, tmp_path)
    config = recipe.model.model_config
    assert (
        config.hidden_size,
        config.intermediate_size,
        config.num_hidden_layers,
        config.vocab_size,
    ) == (4096, 11008, 32, 32000)
    assert (
        recipe.model.init_method.scaling_method == "NUM_LAYERS"
        and recipe.parallelism.tp_mode == "REDUCE_SCATTER"
    )
    assert (
        recipe.optimizer.optimizer_factory.name == "adamW"
        and recipe.tokenizer.tokenizer_name_or_path is None
    )


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    value = content()
    del value["tokens"]["micro_batch_size"]
    with pytest.raises(InputError, match="tokens.micro_batch_size: missing key"):
        read(value, tmp_path)


def test_a_file_that_is_no_recipe(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("a: [1,\n")
    with pytest.raises(InputError, match="not YAML"):
        read_recipe(tmp_path / "a.yaml")
    (tmp_path / "b.yaml").write_text("- 1\n")
    with pytest.raises(InputError, match="expected a mapping"):
        read_recipe(tmp_path / "b.yaml")
    with pytest.raises(InputError, match="no such recipe"):
        read_recipe(tmp_path / "c.yaml")


def test_what_has_no_effect_is_said() -> None:
    recipe = read_recipe("recipes/pretrain/zagreus.yaml")
    lines = " ".join(ignored(recipe))
    assert "initializer_range" in lines and "val_check_interval" in lines and "data.seed" in lines
    assert "logging.iteration" not in lines and "limit_test_batches" not in lines
    seldom = replace(recipe, logging=replace(recipe.logging, iteration_step_info_interval=50))
    lines = " ".join(ignored(replace(seldom, tokens=replace(recipe.tokens, limit_test_batches=2))))
    assert (
        "logging.iteration_step_info_interval 50: every step is logged" in lines
        and "tokens.limit_test_batches 2" in lines
    )


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([], "found none"),
        ([0, 10], "found 0, expected a step of at least 1"),
        ([20, 10], "found 10, expected a step after 20"),
        ([10, 10], "found 10, expected a step after 10"),
        ([10, 1_000_000], "beyond the recipe's tokens.train_steps"),
    ],
)
def test_steps_that_cannot_be_reached(steps: list[int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_steps(read_recipe("recipes/pretrain/demo.yaml"), steps)


def test_shares_must_sum_to_one() -> None:
    check_mixture({"a": 0.1, "b": 0.2, "c": 0.7})
    with pytest.raises(InputError, match="sum to 0.9, expected 1"):
        check_mixture({"a": 0.2, "b": 0.7})
    with pytest.raises(InputError, match=r"mixture\.b: found 0"):
        check_mixture({"a": 1.0, "b": 0})


class TestSlice:
    """The part of a recipe up to a step: what changes later does not change it, what changes the
    weights does.
    """

    def recipe(self) -> Recipe:
        value = content()
        value["optimizer"]["learning_rate_scheduler"] = {
            "learning_rate": 0.001,
            "lr_warmup_steps": 10,
            "lr_warmup_style": "linear",
            "lr_decay_starting_step": 100,
            "lr_decay_steps": 50,
            "min_decay_lr": 0.0,
        }
        return build(Recipe, value, "recipe.yaml")

    def with_schedule(self, **changes: Any) -> Recipe:
        recipe = self.recipe()
        schedule = replace(recipe.optimizer.learning_rate_scheduler, **changes)
        return replace(
            recipe, optimizer=replace(recipe.optimizer, learning_rate_scheduler=schedule)
        )

    def test_decay_changes_only_what_follows_its_start(self) -> None:
        other = self.with_schedule(lr_decay_steps=20, lr_decay_style="cosine")
        assert recipe_slice(other, 100) == recipe_slice(self.recipe(), 100)
        assert recipe_slice(other, 101) != recipe_slice(self.recipe(), 101)

    def test_warmup_changes_everything(self) -> None:
        assert recipe_slice(self.with_schedule(lr_warmup_steps=11), 5) != recipe_slice(
            self.recipe(), 5
        )

    def test_circumstances_change_nothing(self) -> None:
        recipe = self.recipe()
        tokens = replace(
            recipe.tokens, micro_batch_size=2, batch_accumulation_per_replica=2, train_steps=1000
        )
        other = replace(
            recipe,
            parallelism=replace(recipe.parallelism, dp=4),
            tokens=tokens,
            general=replace(recipe.general, run="other"),
            checkpoints=replace(
                recipe.checkpoints, checkpoint_interval=7, checkpoints_path="elsewhere"
            ),
            logging=replace(recipe.logging, log_level="debug"),
        )
        assert other.global_batch_size == recipe.global_batch_size
        assert fingerprint(recipe_slice(other, 120)) == fingerprint(recipe_slice(recipe, 120))

    def test_seed_and_batch_change_it(self) -> None:
        recipe = self.recipe()
        assert recipe_slice(
            replace(recipe, general=replace(recipe.general, seed=9)), 5
        ) != recipe_slice(recipe, 5)
        assert recipe_slice(
            replace(recipe, tokens=replace(recipe.tokens, batch_accumulation_per_replica=3)), 5
        ) != recipe_slice(recipe, 5)


def test_nanotrons_defaults_of_the_schedule() -> None:
    schedule = resolved(Scheduler(0.001, "linear", lr_warmup_steps=5, lr_decay_starting_step=8), 30)
    assert (schedule.lr_decay_steps, schedule.lr_decay_starting_step, schedule.min_decay_lr) == (
        25,
        8,
        0.001,
    )
    assert plain(schedule)["lr_decay_style"] == "linear"


@pytest.mark.parametrize(
    ("ranks", "micro", "accumulation"),
    [(1, 4, 64), (16, 4, 4), (64, 4, 1), (128, 2, 1), (256, 1, 1)],
)
def test_the_batch_is_the_same_whatever_the_number_of_ranks(
    ranks: int, micro: int, accumulation: int
) -> None:
    """The published recipe: 64 micro batches of 4 sequences."""
    recipe = read_recipe("recipes/pretrain/zagreus.yaml")
    shared = shared_among(recipe, ranks)
    assert (
        shared.tokens.micro_batch_size == micro
        and shared.global_batch_size == 256 == micro * accumulation * ranks
    )
    assert recipe_slice(shared, 1000) == recipe_slice(recipe, 1000)


def test_ranks_that_do_not_divide_the_batch() -> None:
    with pytest.raises(
        InputError,
        match="48 ranks cannot share the 256 sequences .*: 1, 2, 4, 8, 16, 32, 64, 128, 256$",
    ):
        shared_among(read_recipe("recipes/pretrain/zagreus.yaml"), 48)
