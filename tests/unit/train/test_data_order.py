"""The order of the data.

Found at any place without a walk there, over several stages, and again when a folder is too short.
"""

import json
import time
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from small import Training, shard

from zagreus.errors import InputError
from zagreus.recipe.read import check, read_recipe, recipe_slice, write_recipe
from zagreus.recipe.schema import Recipe, Scheduler, StageSchedule
from zagreus.training.batches import Batches
from zagreus.training.blend import Blend, drawn_at
from zagreus.training.nanoset import OPEN, TokenFolder, permuted
from zagreus.training.schedule import recipe_rate
from zagreus.training.segment import plan_segment, told_segment

PUBLISHED = Path("../shared/reference/pretrain_zagreus_ita.nanotron.yaml")


@settings(max_examples=40, deadline=None)
@given(
    weights=st.lists(
        st.sampled_from([0.1, 0.2, 0.25, 0.3, 1 / 3, 0.0137, 1.0]), min_size=1, max_size=8
    ),
    position=st.integers(0, 20000),
)
def test_a_place_is_found_as_if_one_had_walked_there(weights: list[float], position: int) -> None:
    blend = Blend(weights)
    for _ in range(position):
        blend.next()
    assert drawn_at(weights, position) == blend.drawn


def test_the_published_runs_last_step_is_found_in_seconds() -> None:
    started, samples = time.process_time(), 2_000_000 * 256
    drawn = drawn_at([0.1] * 10, samples)
    assert sum(drawn) == samples and max(drawn) - min(drawn) <= 1
    assert time.process_time() - started < 20


@pytest.mark.skipif(not PUBLISHED.exists(), reason=f"no {PUBLISHED}")
def test_the_published_file_runs_as_it_stands_but_for_its_paths(tmp_path) -> None:
    """Read, planned for 64 ranks, its first batch at its own size on the last of them.

    And its last batch found at once, in memory that
    does not grow with its two million steps."""
    value = yaml.safe_load(PUBLISHED.read_text())
    value["checkpoints"] |= {
        "checkpoints_path": str(tmp_path / "checkpoints"),
        "resume_checkpoint_path": None,
    }
    dataset = value["data_stages"][0]["data"]["dataset"]
    dataset["dataset_folder"] = [
        str(tmp_path / str(index)) for index in range(len(dataset["dataset_folder"]))
    ]
    for index, folder in enumerate(dataset["dataset_folder"]):
        shard(Path(folder), "00000", np.full(26 * 4097, 1000 + index))
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(value))
    recipe = read_recipe(tmp_path / "recipe.yaml")
    segment = plan_segment(recipe, 1, None, [], 64)
    (batch,) = Batches(segment.recipe, 0, None, 63, 64).next()
    # 63 * 4 samples before, in turn from ten folders of equal weight.
    assert batch.input_ids.shape == (4, 4096) and batch.input_ids[:, 0].tolist() == [
        1002,
        1003,
        1004,
        1005,
    ]
    with pytest.raises(
        InputError,
        match="too few tokens for 2000000 steps: weight 0.1 needs 209,766,400,000 tokens",
    ):
        plan_segment(recipe, 2_000_000, None, [], 64)
    again = replace(recipe, zagreus=replace(recipe.zagreus, end_of_data="epochs"))
    tracemalloc.start()
    started = time.process_time()
    batches = Batches(again, 1_999_999)
    assert len(batches.next()) == 64 and sum(batches.drawn[0]) == 2_000_000 * 256
    assert tracemalloc.get_traced_memory()[1] < 50e6 and time.process_time() - started < 20
    tracemalloc.stop()


def two_stages(training: Training, start: int, **extension) -> Recipe:
    """The small recipe with a second stage that reads its folders the other way round."""
    recipe = read_recipe(training.recipe)
    first = recipe.data_stages[0]
    dataset = first.data.dataset
    second = replace(dataset, dataset_folder=dataset.folders[::-1], dataset_weights=[0.9, 0.1])
    later = replace(
        first, name="annealing", start_training_step=start, data=replace(first.data, dataset=second)
    )
    return replace(recipe, data_stages=[first, later], zagreus=replace(recipe.zagreus, **extension))


def tokens(batches: Batches) -> list:
    return [batch.input_ids.tolist() for batch in batches.next()]


def test_a_second_stage_goes_on_where_the_first_left_its_folders(tmp_path) -> None:
    recipe = two_stages(Training(tmp_path), 11)
    check(recipe, "recipe.yaml")
    batches = Batches(recipe)
    windows: dict[str, list[int]] = {}
    for step in range(1, 31):
        batches.next()
        folders = recipe.data_stages[recipe.stage_at(step)].data.dataset.folders
        for folder, window in batches.order:
            windows.setdefault(folders[folder], []).append(window)
    # No window twice and none left out: what nanotron's offsets are for.
    assert all(
        folder_windows == list(range(len(folder_windows))) for folder_windows in windows.values()
    )
    assert sum(count for count in batches.drawn[1]) == 20 * recipe.global_batch_size


@pytest.mark.parametrize("step", [0, 1, 9, 10, 11, 25])
def test_every_steps_batch_is_found_alone(step: int, tmp_path) -> None:
    recipe = two_stages(Training(tmp_path), 11)
    walked = Batches(recipe)
    for _ in range(step):
        walked.next()
    kept = Batches(recipe, step, walked.drawn)
    direct = Batches(recipe, step)
    assert tokens(walked) == tokens(kept) == tokens(direct)


def test_a_stage_may_have_a_learning_rate_of_its_own(tmp_path) -> None:
    own = StageSchedule("annealing", Scheduler(0.001, "linear", 2, "linear", 8, 2, 0.0))
    recipe = two_stages(Training(tmp_path), 11, stage_schedules=[own])
    check(recipe, "recipe.yaml")
    plain = two_stages(Training(tmp_path), 11)
    assert [recipe_rate(recipe, step) for step in range(1, 11)] == [
        recipe_rate(plain, step) for step in range(1, 11)
    ]
    assert [recipe_rate(recipe, step) for step in (11, 12, 13, 17)] == [0.0, 0.0005, 0.001, 0.0005]
    assert recipe_slice(recipe, 10) == recipe_slice(read_recipe(tmp_path / "recipe.yaml"), 10)
    with pytest.raises(InputError, match="schedule of 'other', which is no data stage's name"):
        check(
            replace(
                recipe,
                zagreus=replace(recipe.zagreus, stage_schedules=[replace(own, stage="other")]),
            ),
            "recipe.yaml",
        )


@settings(max_examples=50, deadline=None)
@given(size=st.integers(1, 300), key=st.text(max_size=5))
def test_an_epochs_order_is_a_permutation(size: int, key: str) -> None:
    assert sorted(permuted(index, size, key) for index in range(size)) == list(range(size))


def test_epochs_read_every_window_once_each_in_another_order(tmp_path) -> None:
    training = Training(tmp_path)
    training.write_recipe(tokens={"train_steps": 400}, zagreus={"end_of_data": "epochs"})
    recipe = read_recipe(training.recipe)
    (folder, _) = Batches(recipe).folders
    size = len(folder)
    epochs = [[folder.locate(epoch * size + index) for index in range(size)] for epoch in range(3)]
    assert epochs[0] == [folder.locate(index) for index in range(size)]
    assert sorted(epochs[1]) == sorted(epochs[2]) == sorted(epochs[0])
    assert epochs[1] != epochs[0] and epochs[2] not in (epochs[0], epochs[1])
    assert training.train(150).returncode == 0


def test_absent_weights_are_equal_or_by_length(tmp_path) -> None:
    training = Training(tmp_path)
    value = read_recipe(training.recipe)
    stage = value.data_stages[0]
    absent = replace(
        value,
        data_stages=[
            replace(
                stage,
                data=replace(stage.data, dataset=replace(stage.data.dataset, dataset_weights=None)),
            )
        ],
    )
    assert Batches(absent).weights == [[0.5, 0.5]]
    by_length = replace(absent, zagreus=replace(absent.zagreus, absent_weights="length"))
    write_recipe(absent, training.recipe)
    assert training.train(1).returncode == 0
    assert json.loads((tmp_path / "1.json").read_text())["stage_weights"] == ["equal"]
    assert [stage["weights"] for stage in training.log(1)[0]["stages"]] == ["equal"]
    lengths = [len(folder) for folder in Batches(absent).folders]
    assert np.allclose(
        Batches(by_length).weights, [[lengths[0] / sum(lengths), lengths[1] / sum(lengths)]]
    )


def test_a_loss_that_is_no_number_stops(tmp_path) -> None:
    training = Training(tmp_path)
    # A decay of 1e38 makes each step's weights larger by that factor, up to infinity.
    training.recipe.write_text(
        training.recipe.read_text().replace("weight_decay: 0.01", "weight_decay: 1.0e+38")
    )
    done = training.train(40)
    assert done.returncode == 2
    line = next(line for line in done.stderr.splitlines() if "error: " in line)
    assert (
        "norm nan at step" in line
        and "last good checkpoint: none" in line
        and "tokens/a/0000" in line
    ), line


def test_a_loss_that_explodes_stops_with_step_checkpoint_and_origin(tmp_path) -> None:
    training = Training(tmp_path)
    training.write_recipe(zagreus={"loss_limit": 50.0})
    assert training.train(8).returncode == 0
    text = training.recipe.read_text()
    training.recipe.write_text(text.replace("loss_limit: 50.0", "loss_limit: 0.5"))
    done = training.train(12, 8)
    assert done.returncode == 2
    line = next(line for line in done.stderr.splitlines() if "error: " in line)
    assert (
        "(limit 0.5)" in line
        and "at step 9; last good checkpoint: " in line
        and "checkpoints/8;" in line
    )
    assert "tokens/a/0000" in line and " window " in line
    assert json.loads((tmp_path / "8.json").read_text())["stage_weights"] == ["given"]


def test_a_folder_of_many_files_keeps_few_open(tmp_path: Path) -> None:
    """Any order of windows, as epochs have it.

    The tokens are those of the files, and few descriptors stay open.
    """
    tokens = np.arange(OPEN * 3 * 51)
    for number in range(OPEN * 3):
        shard(tmp_path, f"{number:05d}", tokens[number * 51 : (number + 1) * 51])
    folder = TokenFolder(str(tmp_path), 16)
    for window in np.random.default_rng(1).permutation(len(folder)):
        first = window // 3 * 51 + window % 3 * 17
        assert folder.read(int(window)).tolist() == list(range(first, first + 17))
        assert len(folder._opened) <= OPEN


def test_a_shard_that_fails_while_it_is_read_is_named(tmp_path: Path, monkeypatch) -> None:
    shard(tmp_path, "00000", np.arange(51))
    file = tmp_path / "00000_unshuffled.ds"
    folder = TokenFolder(str(tmp_path), 16)
    assert folder.read(1).tolist() == list(range(17, 34))
    with open(file, "r+b") as opened:  # cut off under our hands
        opened.truncate(4 * 40)
    with pytest.raises(InputError, match=f"{file}: cut off, window 2 has 24 of 68 bytes"):
        folder.read(2)
    folder = TokenFolder.__new__(TokenFolder)
    folder.__dict__ |= {
        "path": str(tmp_path),
        "width": 17,
        "epoch_seed": None,
        "files": [file],
        "dtype": np.dtype("<u4"),
    }
    folder.__dict__ |= {"ends": [3], "_opened": {}}
    file.unlink()
    with pytest.raises(
        InputError, match=f"{file}: cannot read window 0 .No such file or directory"
    ):
        folder.read(0)


def test_a_rank_takes_the_segment_that_its_launcher_planned(tmp_path: Path) -> None:
    training = Training(tmp_path)
    recipe = read_recipe(training.recipe)
    assert training.train(4).returncode == 0
    for previous in (None, tmp_path / "4.json"):
        planned = plan_segment(recipe, 8, previous, training.tokens, 4)
        assert told_segment(recipe, 8, 4, planned.told()) == planned
    origin = tmp_path / "4.json"
    planned = plan_segment(recipe, 8, None, training.tokens, 2, origin)
    assert planned.origin == origin and told_segment(recipe, 8, 2, planned.told()) == planned
