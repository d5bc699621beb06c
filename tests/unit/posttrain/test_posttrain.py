"""scripts/posttrain.py.

Real runs of Axolotl on a tiny model, killed and resumed, and input that is refused before training.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny import finish, make_base, make_recipe, make_rows, start

from zagreus.manifest import read_manifest, sha256_file
from zagreus.posttraining.checkpoints import torn

SHORT = {
    "sequence_len": 64,
    "micro_batch_size": 1,
    "num_epochs": 2,
    "save_strategy": "steps",
    "save_steps": 5,
    "eval_strategy": "no",
    "val_set_size": 0,
    "curriculum_sampling": False,  # as published: the rows have another order in each epoch
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A base, rows of both forms, and the tests' recipes with short sequences and frequent
    checkpoints.
    """
    folder = tmp_path_factory.mktemp("inputs")
    return {
        "base": make_base(folder / "base"),
        "sft_rows": make_rows(folder / "chat" / "sft.json", "sft", 72),
        "dpo_rows": make_rows(folder / "chat" / "dpo.json", "dpo", 48),
        "sft": make_recipe(folder / "sft.yaml", "recipes/posttrain/test_sft.yaml", **SHORT),
        "dpo": make_recipe(folder / "dpo.yaml", "recipes/posttrain/test_dpo.yaml"),
    }


@pytest.fixture(scope="module")
def sft(inputs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an undisturbed SFT run."""
    run = tmp_path_factory.mktemp("sft")
    status, written = finish(start(run, "sft", inputs["sft"], inputs["base"], inputs["sft_rows"]))
    assert status == 0, written[-2000:]
    return run


def test_the_model_folder_is_complete(sft: Path, inputs: dict[str, Path]) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = sft / "models" / "sft"
    manifest, run = (
        json.loads((folder / name).read_text(encoding="utf-8"))
        for name in ("manifest.json", "manifest.run.json")
    )
    assert (
        manifest["steps"] < run["train_tokens"] <= manifest["steps"] * SHORT["sequence_len"]
        and run["train_seconds"] > 0
    )
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert model.generation_config.eos_token_id == end == tokenizer.eos_token_id
    assert model.config.use_cache
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Ciao"}], add_generation_prompt=True, tokenize=False
    )
    assert text == "<|im_start|>user\nCiao<|im_end|>\n<|im_start|>assistant\n"
    assert (
        (folder / "README.md")
        .read_text(encoding="utf-8")
        .startswith("---\nlibrary_name: transformers")
    )

    manifest = read_manifest(folder / "manifest.json", kind="model")
    assert manifest["name"] == "tiny/sft"
    assert manifest["parameters"] == sum(weight.numel() for weight in model.parameters())
    assert [item["sha256"] for item in manifest["inputs"]] == [
        sha256_file(inputs[name]) for name in ("base", "sft_rows", "sft")
    ]
    assert manifest["loss_last"] < 0.7 * manifest["loss_first"]


def test_the_log_has_every_step(sft: Path) -> None:
    lines = [
        json.loads(line)
        for line in (sft / "work" / "sft" / "log.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert lines[0]["event"] == "start"
    steps = [line["step"] for line in lines[1:] if "loss" in line]
    assert steps == list(range(1, lines[0]["steps"] + 1))
    assert {"loss", "learning_rate", "grad_norm"} <= set(lines[1])
    assert sorted(item.name for item in (sft / "work" / "sft").iterdir()) == [
        "axolotl.yaml",
        "log.jsonl",
    ]


def test_the_turns_end(sft: Path) -> None:
    """What SFT is for.

    After training on short answers, generation stops at the end of the turn by itself.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(sft / "models" / "sft")
    model = AutoModelForCausalLM.from_pretrained(sft / "models" / "sft")
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Chi sei? 7"}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )
    tokens = model.generate(**prompt, max_new_tokens=80)[0]
    assert tokens[-1] == tokenizer.convert_tokens_to_ids("<|im_end|>")


def stop_at_checkpoint(
    run: Path, stage: str, arguments: tuple[Path, Path, Path], step: int, number: int
) -> tuple[Path, str]:
    """Start the script, send it and its children a signal once a checkpoint from `step` on is
    there, and return the checkpoints' folder and
    what the script wrote."""
    process = start(run, stage, *arguments)
    try:
        while process.poll() is None:
            checkpoints = [
                file.parent
                for file in run.glob(f"work/{stage}/*/checkpoints/checkpoint-*/trainer_state.json")
            ]
            if any(int(checkpoint.name.split("-")[1]) >= step for checkpoint in checkpoints):
                break
            time.sleep(0.005)
    finally:
        os.killpg(process.pid, number)
    status, written = finish(process)
    assert status == (-number if number == signal.SIGKILL else 128 + signal.SIGTERM), written[
        -2000:
    ]
    return checkpoints[0].parent, written


def same(run: Path, other: Path, stage: str) -> None:
    """Compare what two runs of a stage left behind, byte for byte."""
    for file in (
        f"models/{stage}/model.safetensors",
        f"models/{stage}/config.json",
        f"work/{stage}/log.jsonl",
    ):
        assert (run / file).read_bytes() == (other / file).read_bytes(), file


def test_killed_and_resumed_equals_undisturbed(
    sft: Path, inputs: dict[str, Path], tmp_path: Path
) -> None:
    """SFT is killed in the middle of its first epoch, and a torn checkpoint with a higher step is
    planted: it must not be chosen.
    """
    arguments = (inputs["sft"], inputs["base"], inputs["sft_rows"])
    checkpoints, _ = stop_at_checkpoint(tmp_path, "sft", arguments, 5, signal.SIGKILL)
    whole = max(checkpoints.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    shutil.copytree(whole, checkpoints / "checkpoint-9999")
    (checkpoints / "checkpoint-9999" / "trainer_state.json").unlink()
    assert not (tmp_path / "models").exists()
    status, written = finish(start(tmp_path, "sft", *arguments))
    assert status == 0, written[-2000:]
    assert "checkpoint-9999: trainer_state.json is missing or cut off; set aside as" in written
    assert f"{whole.name}" in written
    same(tmp_path, sft, "sft")


def test_asked_to_stop_it_saves_and_goes_on(
    sft: Path, inputs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As before a time limit of Slurm's.

    A whole checkpoint of the step in hand, the mark for the launcher, and the undisturbed result.
    """
    monkeypatch.setenv("ZAGREUS_STOPPED", str(tmp_path / "stopped"))
    arguments = (inputs["sft"], inputs["base"], inputs["sft_rows"])
    checkpoints, written = stop_at_checkpoint(tmp_path, "sft", arguments, 5, signal.SIGUSR2)
    saved = max(int(path.name.split("-")[1]) for path in checkpoints.glob("checkpoint-*"))
    assert (
        f"stopped by a signal, saved at step {saved}" in written
        and torn(checkpoints / f"checkpoint-{saved}") is None
    )
    assert (tmp_path / "stopped").exists() and not (tmp_path / "models").exists()
    status, written = finish(start(tmp_path, "sft", *arguments))
    assert status == 0, written[-2000:]
    same(tmp_path, sft, "sft")


def test_asked_to_stop_before_the_training_it_ends(inputs: dict[str, Path], tmp_path: Path) -> None:
    process = start(tmp_path, "sft", inputs["sft"], inputs["base"], inputs["sft_rows"])
    while not list(tmp_path.glob("work/sft/axolotl.yaml")):
        assert process.poll() is None
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGUSR2)
    status, written = finish(process)
    assert (
        status == 128 + signal.SIGTERM and "stopped by a signal, before the training" in written
    ), written[-2000:]


def test_asked_to_stop_in_the_middle_of_an_import_it_ends() -> None:
    """Where Python turns an exception of the signal's handler into another error.

    While a class with descriptors is made.
    """
    program = """
import os, signal
from zagreus.posttraining.stop import STOP

class Descriptor:
    def __set_name__(self, owner: type, name: str) -> None:
        os.kill(os.getpid(), signal.SIGUSR2)

STOP.listen()
print("before", end="")
class Owner:
    descriptor = Descriptor()
print("after")
"""
    done = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (128 + signal.SIGTERM, "before")
    assert done.stderr == "stopped by a signal, before the training\n"


def test_dpo_after_sft(sft: Path, inputs: dict[str, Path], tmp_path: Path) -> None:
    """One run undisturbed, and one that was asked to stop."""
    arguments = (inputs["dpo"], sft / "models" / "sft" / "manifest.json", inputs["dpo_rows"])
    status, written = finish(start(tmp_path, "dpo", *arguments))
    assert status == 0, written[-2000:]
    manifest = read_manifest(tmp_path / "models" / "dpo" / "manifest.json", kind="model")
    assert manifest["base"] == "tiny/sft"
    assert manifest["loss_first"] == pytest.approx(
        0.6931, abs=1e-3
    )  # both models are the same before the first step: log 2
    assert manifest["loss_last"] < manifest["loss_first"]
    other = tmp_path / "other"
    stop_at_checkpoint(other, "dpo", arguments, 2, signal.SIGTERM)
    status, written = finish(start(other, "dpo", *arguments))
    assert status == 0, written[-2000:]
    same(other, tmp_path, "dpo")


def refused(tmp_path: Path, stage: str, recipe: Path, base: Path, data: Path) -> str:
    """Run the script on bad input; return its one line, and check that nothing was written."""
    status, written = finish(start(tmp_path, stage, recipe, base, data))
    assert status == 2, written[-2000:]
    (line,) = [line for line in written.splitlines() if line.startswith("error: ")]
    assert not (tmp_path / "models").exists()
    return line


def test_rows_of_the_other_form(inputs: dict[str, Path], tmp_path: Path) -> None:
    line = refused(tmp_path, "sft", inputs["sft"], inputs["base"], inputs["dpo_rows"])
    assert "dpo.json: rows for dpo, stage 'sft' needs rows for sft" in line


def test_a_base_without_turn_markers(inputs: dict[str, Path], tmp_path: Path) -> None:
    line = refused(
        tmp_path, "sft", inputs["sft"], make_base(tmp_path / "base", markers=()), inputs["sft_rows"]
    )
    assert "<|im_start|> and <|im_end|> not among the special tokens" in line


def test_an_unknown_key(inputs: dict[str, Path], tmp_path: Path) -> None:
    recipe = make_recipe(tmp_path / "sft.yaml", "recipes/posttrain/test_sft.yaml", learning_rat=1)
    line = refused(tmp_path, "sft", recipe, inputs["base"], inputs["sft_rows"])
    assert "unknown key 'learning_rat', did you mean 'learning_rate'?" in line


@pytest.mark.slow
def test_a_checkpoint_goes_on_with_another_number_of_processes(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    """Two processes go on from the checkpoint of one, with half the accumulation.

    The batch is the same.
    """
    changes = {**SHORT, "gradient_accumulation_steps": 2, "max_memory": {"cpu": "8GiB"}}
    recipe = make_recipe(tmp_path / "sft.yaml", "recipes/posttrain/test_sft.yaml", **changes)
    arguments = (recipe, inputs["base"], inputs["sft_rows"])
    checkpoints, _ = stop_at_checkpoint(tmp_path, "sft", arguments, 5, signal.SIGKILL)
    step = max(int(path.name.split("-")[1]) for path in checkpoints.glob("checkpoint-*"))
    status, written = finish(start(tmp_path, "sft", *arguments, "--ranks", "2"))
    assert status == 0, written[-2000:]
    assert f"checkpoint-{step}" in written and "set aside" not in written
    manifest = read_manifest(tmp_path / "models" / "sft" / "manifest.json", kind="model")
    assert manifest["steps"] > step and manifest["loss_last"] < 0.8 * manifest["loss_first"]
