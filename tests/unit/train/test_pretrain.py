"""Segments of a training.

Exact resumes after any interruption, the same result for another cut or number of ranks, refusals.
"""

import copy
import json
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from small import Training, environment, shard, text

from zagreus.model.llama import Llama
from zagreus.recipe.read import read_recipe

LAST = 60
MEASURED = (
    "seconds",
    "tokens_per_second",
    "data_wait_seconds",
    "sum_wait_seconds",
    "sums_in_backward",
)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Training:
    """A training of 60 steps in one go."""
    training = Training(tmp_path_factory.mktemp("undisturbed"))
    done = training.train(LAST)
    assert done.returncode == 0, done.stderr
    return training


@pytest.fixture(scope="module")
def undisturbed_pair(tmp_path_factory: pytest.TempPathFactory) -> Training:
    """The same on two ranks."""
    training = Training(tmp_path_factory.mktemp("undisturbed_pair"))
    done = training.train(LAST, ranks=2)
    assert done.returncode == 0, done.stderr
    return training


def wait_for(folder: Path, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 60
    while not folder.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    assert folder.exists()


def same_steps(ours: Training, other: Training, first: int, last: int) -> None:
    """The log holds every step once, with the same values but for the times."""
    logs = []
    for training in (ours, other):
        lines = [
            line
            for step in sorted(int(p.stem) for p in training.root.glob("*.jsonl"))
            for line in training.log(step)
        ]
        steps = [line for line in lines if "step" in line]
        assert [line["step"] for line in steps] == list(range(first, last + 1))
        logs.append(
            [{key: value for key, value in line.items() if key not in MEASURED} for line in steps]
        )
    assert logs[0] == logs[1]


def test_it_learns_and_says_what_it_did(undisturbed: Training) -> None:
    log = undisturbed.log(LAST)
    assert log[0]["event"] == "start" and log[0]["tokens_per_step"] == 2 * 2 * 2 * 16
    assert log[-1]["loss"] < log[1]["loss"] - 0.1
    assert log[1]["learning_rate"] == 0.0 and log[-1]["tokens"] == LAST * 128
    manifest = json.loads((undisturbed.root / f"{LAST}.json").read_text())
    assert (
        manifest["kind"] == "checkpoint"
        and manifest["name"] == f"m/{LAST}"
        and manifest["tokens_seen"] == LAST * 128
    )
    assert [Path(item["path"]).name for item in manifest["inputs"]] == [
        "00000.json",
        "00001.json",
        "00000.json",
    ]
    assert sorted(item.name for item in (undisturbed.root / "checkpoints").iterdir()) == [
        ".lock",
        str(LAST),
    ]


@pytest.mark.parametrize("ranks", [1, 2])
def test_held_apart_loss_is_that_of_the_model_and_changes_nothing(
    undisturbed: Training, tmp_path: Path, ranks: int
) -> None:
    training = Training(tmp_path)
    parts = {"c": text(4, 17 * 9 + 5), "d": text(5, 17 * 5)}
    for name, tokens in parts.items():
        tokens[::13] = 2  # ends of text: the labels after them are not trained
        shard(tmp_path / "heldout" / name, "00000", tokens)
    folders = [
        {"folder": str(tmp_path / "heldout" / name), "weight": weight}
        for name, weight in (("c", 0.75), ("d", 0.25))
    ]
    training.write_recipe(
        tokens={"val_check_interval": 20, "limit_val_batches": 0}, zagreus={"validation": folders}
    )
    for step, previous in ((30, None), (LAST, 30)):
        done = training.train(step, previous, ranks)
        assert done.returncode == 0, done.stderr
    assert "held-out loss: every 20 steps, all windows of each of 2 folders" in done.stderr
    assert ranks > 1 or training.weights(LAST) == undisturbed.weights(LAST)
    looks = {
        line["step"]: line
        for line in [*training.log(30), *training.log(LAST)]
        if "heldout_loss" in line
    }
    assert list(looks) == [20, 40, 60] and looks[60]["heldout_loss"] < looks[20]["heldout_loss"]
    recipe = read_recipe(training.recipe)
    model = Llama(recipe.model.model_config)
    model.load_state_dict(load_file(tmp_path / "checkpoints/60/weights.safetensors"))
    for name, tokens in parts.items():
        windows = torch.from_numpy(tokens[: len(tokens) // 17 * 17]).view(-1, 17)
        losses = torch.nn.functional.cross_entropy(
            model.logits(windows[:, :-1]).transpose(1, 2), windows[:, 1:], reduction="none"
        )
        expected = losses[windows[:, :-1] != 2].mean().item()
        assert looks[60]["heldout_losses"][str(tmp_path / "heldout" / name)] == pytest.approx(
            expected, abs=2e-6
        )
    first, second = looks[60]["heldout_losses"].values()
    assert looks[60]["heldout_loss"] == pytest.approx(0.75 * first + 0.25 * second, rel=1e-12)


def test_held_apart_tokens_for_no_window(tmp_path: Path) -> None:
    training = Training(tmp_path)
    shard(tmp_path / "heldout", "00000", text(4, 16))
    training.write_recipe(
        tokens={"val_check_interval": 20},
        zagreus={"validation": [{"folder": str(tmp_path / "heldout")}]},
    )
    done = training.train(LAST)
    assert (
        done.returncode == 2
        and f"{tmp_path / 'heldout'}: not one window of 17 held-out tokens" in done.stderr
    )


def test_killed_and_started_again_it_ends_with_the_same_bytes(
    undisturbed: Training, tmp_path: Path
) -> None:
    training = Training(tmp_path)
    process = subprocess.Popen(training.command(LAST), env=environment(), stderr=subprocess.DEVNULL)
    wait_for(tmp_path / "checkpoints" / "20", process)
    process.kill()
    process.wait()
    assert not (tmp_path / f"{LAST}.json").exists()
    done = training.train(LAST)
    assert done.returncode == 0, done.stderr
    assert training.weights(LAST) == undisturbed.weights(LAST)
    same_steps(training, undisturbed, 1, LAST)


@pytest.mark.parametrize(("number", "ranks"), [(signal.SIGTERM, 1), (signal.SIGUSR2, 2)])
def test_a_signal_saves_and_the_next_run_goes_on(number: int, ranks: int, tmp_path: Path) -> None:
    training = Training(tmp_path)
    training.write_recipe(checkpoints={"checkpoint_interval": 1000})
    process = subprocess.Popen(
        training.command(LAST, ranks=ranks), env=environment(), stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("steps: "):
            break
    process.send_signal(number)
    rest = process.stderr.read()
    assert process.wait() != 0
    (saved,) = (item for item in (tmp_path / "checkpoints").iterdir() if item.is_dir())
    assert f"stopped by a signal at step {saved.name}" in rest
    done = training.train(LAST, ranks=ranks)
    assert done.returncode == 0, done.stderr
    assert f"steps: {int(saved.name) + 1} to {LAST}" in done.stderr
    assert [line["step"] for line in training.log(LAST)[1:]] == list(range(1, LAST + 1))


def test_the_threads_of_the_environment_make_no_difference(
    undisturbed: Training, tmp_path: Path
) -> None:
    training = Training(tmp_path)
    done = subprocess.run(
        training.command(LAST),
        env={**environment(), "OMP_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert training.weights(LAST) == undisturbed.weights(LAST)


def test_two_segments_are_one(undisturbed: Training, tmp_path: Path) -> None:
    training = Training(tmp_path)
    for step, previous in ((7, None), (LAST, 7)):
        done = training.train(step, previous)
        assert done.returncode == 0, done.stderr
    assert training.weights(LAST) == undisturbed.weights(LAST)
    same_steps(training, undisturbed, 1, LAST)


def test_a_cut_in_every_stage_and_type_ends_with_the_same_bytes(tmp_path: Path) -> None:
    """bfloat16 weights with fp32 ones kept apart.

    A second stage with other shares and a learning rate of its own. Cut at the stages' border and
    after it."""
    trainings = [Training(tmp_path / name) for name in ("whole", "cut")]
    own = {
        "learning_rate": 0.001,
        "lr_warmup_style": "linear",
        "lr_warmup_steps": 2,
        "lr_decay_steps": 8,
        "min_decay_lr": 0.0,
    }
    for training in trainings:
        value = yaml.safe_load(training.recipe.read_text())
        value["model"]["dtype"] = "bfloat16"
        (first,) = value["data_stages"]
        second = copy.deepcopy(first) | {"name": "annealing", "start_training_step": 11}
        second["data"]["dataset"]["dataset_weights"] = [0.1, 0.9]
        value["data_stages"] = [first, second]
        value["zagreus"] = {
            "stage_schedules": [{"stage": "annealing", "learning_rate_scheduler": own}]
        }
        training.recipe.write_text(yaml.safe_dump(value))
    whole, cut = trainings
    done = whole.train(20)
    assert done.returncode == 0, done.stderr
    assert (
        "learning rate of stage annealing from step 11: 0.001, linear warmup over 2 steps, linear "
        "decay to 0 " in done.stderr
    )
    for step, previous in ((10, None), (13, 10), (20, 13)):
        done = cut.train(step, previous)
        assert done.returncode == 0, done.stderr
    assert cut.weights(20) == whole.weights(20)
    same_steps(cut, whole, 1, 20)
    assert [line["learning_rate"] for line in whole.log(20)[11:15]] == [
        0.0,
        0.0005,
        0.001,
        0.000875,
    ]


def test_rolling_saves_are_kept_as_the_recipe_says(tmp_path: Path) -> None:
    training = Training(tmp_path)
    training.write_recipe(zagreus={"rolling_saves": 3}, checkpoints={"checkpoint_interval": 2})
    process = subprocess.Popen(training.command(LAST), env=environment(), stderr=subprocess.DEVNULL)
    wait_for(tmp_path / "checkpoints" / "12", process)
    process.send_signal(signal.SIGTERM)
    process.wait()
    saved = sorted(int(item.name) for item in (tmp_path / "checkpoints").iterdir() if item.is_dir())
    assert len(saved) == 3 and saved[-1] >= 12 and saved[0] >= 8


def test_two_ranks_agree_with_one(undisturbed: Training, undisturbed_pair: Training) -> None:
    training = undisturbed_pair
    for ours, other in zip(training.log(LAST)[1:], undisturbed.log(LAST)[1:], strict=True):
        assert ours["loss"] == pytest.approx(other["loss"], abs=2e-5)
    pair_weights, single_weights = (
        load_file(where.root / "checkpoints/60/weights.safetensors")
        for where in (training, undisturbed)
    )
    for name, tensor in pair_weights.items():
        torch.testing.assert_close(tensor, single_weights[name], atol=2e-4, rtol=1e-3)


def test_a_launcher_killed_takes_its_ranks_along(
    undisturbed_pair: Training, tmp_path: Path
) -> None:
    training = Training(tmp_path)
    process = subprocess.Popen(
        training.command(LAST, ranks=2), env=environment(), stderr=subprocess.DEVNULL
    )
    wait_for(tmp_path / "checkpoints" / "4", process)
    process.kill()
    process.wait()
    done = training.train(
        LAST, ranks=2
    )  # with ranks of the first run alive, this one would wait for ever or find their files
    assert done.returncode == 0, done.stderr
    assert training.weights(LAST) == undisturbed_pair.weights(LAST)
    same_steps(training, undisturbed_pair, 1, LAST)


def test_a_damaged_save_is_passed_over(undisturbed: Training, tmp_path: Path) -> None:
    training = Training(tmp_path)
    process = subprocess.Popen(training.command(LAST), env=environment(), stderr=subprocess.DEVNULL)
    wait_for(tmp_path / "checkpoints" / "8", process)
    process.kill()
    process.wait()
    newest = max(
        (item for item in (tmp_path / "checkpoints").iterdir() if item.name.isdecimal()),
        key=lambda item: int(item.name),
    )
    with open(newest / "weights.safetensors", "r+b") as opened:
        opened.seek(-4, 2)
        opened.write(b"torn")
    done = training.train(LAST)
    assert done.returncode == 0, done.stderr
    assert f"passed over: {newest / 'weights.safetensors'}: damaged" in done.stderr
    assert training.weights(LAST) == undisturbed.weights(LAST)


def test_another_number_of_ranks_goes_on_with_the_same_data(
    undisturbed: Training, tmp_path: Path
) -> None:
    training = Training(tmp_path)
    for step, previous, ranks in ((30, None, 1), (LAST, 30, 2)):
        done = training.train(step, previous, ranks)
        assert done.returncode == 0, done.stderr
    for ours, other in zip(training.log(LAST)[1:], undisturbed.log(LAST)[31:], strict=True):
        assert ours["step"] == other["step"] and ours["loss"] == pytest.approx(
            other["loss"], abs=2e-5
        )


def test_a_full_disk_is_one_line_and_what_was_saved_stays(tmp_path: Path) -> None:
    training = Training(tmp_path)
    assert training.train(8).returncode == 0
    before = sorted((training.root / "checkpoints/8").iterdir())
    # No file above 20 KiB: the system refuses to write on, as on a full disk.
    limited = ["bash", "-c", 'trap "" XFSZ; ulimit -f 20; exec "$@"', "-", *training.command(12, 8)]
    done = subprocess.run(limited, capture_output=True, text=True, env=environment(), timeout=120)
    assert done.returncode == 2, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "error: " in line]
    assert (
        "checkpoints/12: cannot write the checkpoint" in line
        and "what was saved before is still there" in line
    )
    assert (
        sorted((training.root / "checkpoints/8").iterdir()) == before
        and not (training.root / "12.json").exists()
    )
    assert sorted(item.name for item in (training.root / "checkpoints").iterdir()) == [".lock", "8"]
    assert training.train(12, 8).returncode == 0


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    """The one line of a refusal."""
    assert done.returncode == 2, done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), done.stderr
    return lines[0]


class TestRefusals:
    @pytest.fixture
    def training(self, tmp_path: Path) -> Training:
        return Training(tmp_path)

    def test_a_checkpoint_of_another_recipe(self, training: Training) -> None:
        assert training.train(8).returncode == 0
        training.write_recipe(optimizer={"weight_decay": 0.5})
        assert "8.json: a checkpoint of another recipe" in refusal(training.train(12, 8))
        assert "checkpoints/8: a checkpoint of another recipe" in refusal(training.train(12))
        assert (training.root / "checkpoints/8/weights.safetensors").exists()

    def test_a_checkpoint_of_other_data(self, training: Training) -> None:
        assert training.train(8).returncode == 0
        shard(training.root / "tokens" / "b", "00000", text(7, 5000))
        assert "8.json: a checkpoint of other data" in refusal(training.train(12, 8))
        assert "checkpoints/8: a checkpoint of other data" in refusal(training.train(12))

    def test_its_own_result_of_another_recipe_is_replaced(self, training: Training) -> None:
        assert training.train(8).returncode == 0
        before = training.weights(8)
        training.write_recipe(optimizer={"weight_decay": 0.5})
        assert training.train(8).returncode == 0
        assert training.weights(8) != before

    def test_a_step_beyond_the_recipe(self, training: Training) -> None:
        assert "step 61 is beyond the recipe's tokens.train_steps (60)" in refusal(
            training.train(61)
        )

    def test_too_few_tokens(self, training: Training) -> None:
        training.write_recipe(tokens={"train_steps": 4000})
        line = refusal(training.train(4000))
        assert (
            "tokens/a: too few tokens for 4000 steps: weight 0.6 needs 326,400 tokens" in line
            and "are missing" in line
        )

    def test_a_shard_that_no_manifest_names(self, training: Training) -> None:
        shard(training.root / "tokens" / "b", "00009", text(5, 500))
        assert "00009_unshuffled.ds: a token shard that no manifest names" in refusal(
            training.train(4)
        )

    def test_a_shard_cut_off(self, training: Training) -> None:
        file = training.root / "tokens/b/00000_unshuffled.ds"
        file.write_bytes(file.read_bytes()[:-7])
        assert f"{file}: 19993 bytes, its metadata says 5000 tokens of 4 bytes" in refusal(
            training.train(4)
        )

    def test_a_shard_of_another_run(self, training: Training) -> None:
        manifest = training.root / "tokens/b/00000.json"
        before = manifest.read_bytes()
        shard(training.root / "tokens" / "b", "00000", text(2, 4996))
        manifest.write_bytes(before)
        assert "00000_unshuffled.ds: 19984 bytes, expected 20000" in refusal(training.train(4))

    def test_an_empty_shard(self, training: Training) -> None:
        """It is no mistake, where another one of the folder has tokens; a folder without any is."""
        shard(training.root / "tokens" / "b", "00000", np.array([]))
        assert "tokens/b: too few tokens for 4 steps" in refusal(training.train(4))
        training.tokens.append(shard(training.root / "tokens" / "b", "00001", text(2, 5000)))
        assert training.train(4).returncode == 0

    def test_an_unfinished_shard(self, training: Training) -> None:
        (training.root / "tokens/a/00000_unshuffled.ds.metadata").unlink()
        assert "00000_unshuffled.ds.metadata: missing" in refusal(training.train(4))

    def test_a_token_beyond_the_vocabulary(self, training: Training) -> None:
        tokens = text(1, 6000)
        tokens[3] = 200
        shard(training.root / "tokens" / "a", "00000", tokens)
        done = training.train(4)
        assert done.returncode == 2
        assert (
            "00000_unshuffled.ds: token 200 in window 0, expected ids below the vocabulary's size "
            "(200)" in done.stderr
        )

    def test_micro_batches_that_ranks_cannot_share(self, training: Training) -> None:
        assert (
            "3 ranks cannot share the 8 sequences of a step evenly; these numbers of ranks can: "
            "1, 2, 4, 8" in refusal(training.train(4, ranks=3))
        )

    def test_no_cuda_device(self, training: Training) -> None:
        if torch.cuda.is_available():
            pytest.skip("this machine has a CUDA device")
        done = subprocess.run(
            [*training.command(4), "--device", "cuda"],
            capture_output=True,
            text=True,
            env=environment(),
            timeout=120,
        )
        assert "--device cuda: this machine or image has no CUDA device" in refusal(done)
