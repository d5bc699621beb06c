"""Checkpoints and models that were made elsewhere, in the place of a run's own.

Nanotron goes on here as it went on itself.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from test_baseline import small_model, small_tokenizer
from transformers import PreTrainedTokenizerFast
from vectors import VECTORS, needs_vectors

from zagreus.manifest import read_manifest, sha256_file, write_manifest
from zagreus.model.nanotron import read_nanotron, read_nanotron_optimizer
from zagreus.recipe.schema import Recipe
from zagreus.recipe.strict import build


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    """A tokenizer of the size and with the special ids of nanotron's reference runs."""
    folder = tmp_path / "tokenizer"
    folder.mkdir()
    (folder / "tokenizer.json").write_text(
        json.dumps({"added_tokens": [{"content": "<b>", "id": 510}, {"content": "<e>", "id": 511}]})
    )
    write_manifest(
        folder / "manifest.json",
        kind="tokenizer",
        name="tokenizer",
        vocab_size=512,
        bos_token="<b>",
        eos_token="<e>",
    )
    return folder / "manifest.json"


class Chain:
    """A model whose first checkpoint is adopted, and whose second is trained from it."""

    def __init__(
        self,
        root: Path,
        run: str,
        tokenizer: Path,
        edit: Callable[[dict[str, Any]], None] = lambda value: None,
    ) -> None:
        self.root = root
        value = yaml.safe_load((VECTORS / f"{run}.yaml").read_text())
        dataset = value["data_stages"][0]["data"]["dataset"]
        dataset["dataset_folder"] = [str(VECTORS / folder) for folder in dataset["dataset_folder"]]
        value["parallelism"] |= {"dp": 1, "tp": 1}
        micro_batches = {"r1": 2, "r2": 4, "r5": 2}[run]
        value["tokens"]["batch_accumulation_per_replica"] = micro_batches
        edit(value)
        (root / "recipe.yaml").write_text(yaml.safe_dump(value))
        self.rendered = [
            "--recipe",
            str(root / "recipe.yaml"),
            "--mixture",
            '{"a": 1.0}',
            "--tokenizer",
            str(tokenizer),
        ]
        self.rendered += [
            "--tokens",
            str(root / "tokens"),
            "--checkpoints",
            str(root / "checkpoints"),
        ]

    def run(self, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-P", f"scripts/{script}.py", *arguments],
            capture_output=True,
            text=True,
        )

    def adopt(self, folder: Path, step: int) -> subprocess.CompletedProcess[str]:
        told = [
            "--folder",
            str(folder),
            "--origin",
            "nanotron",
            "--model",
            "m",
            "--step",
            str(step),
        ]
        return self.run(
            "adopt_checkpoint", *told, *self.rendered, "--output", str(self.root / f"{step}.json")
        )

    def go_on(self, previous: int, step: int) -> list[dict[str, Any]]:
        rendered = [
            "--model",
            "m",
            "--step",
            str(step),
            "--output",
            str(self.root / f"{step}.yaml"),
        ]
        done = self.run("render_recipe", *self.rendered, *rendered)
        assert done.returncode == 0, done.stderr
        told = ["--recipe", str(self.root / f"{step}.yaml"), "--model", "m", "--step", str(step)]
        told += [
            "--previous",
            str(self.root / f"{previous}.json"),
            "--output",
            str(self.root / f"{step}.json"),
        ]
        done = self.run("pretrain", *told)
        assert done.returncode == 0, done.stderr
        lines = [
            json.loads(line) for line in (self.root / f"{step}.jsonl").read_text().splitlines()
        ]
        return [line for line in lines if "loss" in line]


@needs_vectors
@pytest.mark.parametrize(("run", "loss", "weights"), [("r1", 1e-6, 1e-5), ("r2", 1e-3, 2e-3)])
def test_training_goes_on_as_nanotron_went_on(
    run: str, loss: float, weights: float, tokenizer: Path, tmp_path: Path
) -> None:
    """The last ten steps of its runs, from its checkpoint at step 10.

    Its losses, and in the end its weights.
    """
    chain = Chain(tmp_path, run, tokenizer)
    done = chain.adopt(VECTORS / f"{run}_ckpt", 10)
    assert done.returncode == 0, done.stderr
    manifest = read_manifest(tmp_path / "10.json", "checkpoint")
    files = {item["path"]: item["sha256"] for item in manifest["origin"]}
    assert manifest["adopted"] == "nanotron" and files["config.yaml"] == sha256_file(
        VECTORS / f"{run}_ckpt/10/config.yaml"
    )
    ours = chain.go_on(10, 20)
    reference = [json.loads(line) for line in (VECTORS / f"{run}.jsonl").read_text().splitlines()][
        10:
    ]
    assert (
        [line["step"] for line in ours]
        == [line["step"] for line in reference]
        == list(range(11, 21))
    )
    assert [line["tokens"] for line in ours] == [line["consumed_tokens"] for line in reference]
    assert max(abs(one["loss"] - other["loss"]) for one, other in zip(ours, reference)) <= loss
    config = build(
        Recipe, yaml.safe_load((VECTORS / f"{run}_ckpt/20/config.yaml").read_text()), ""
    ).model.model_config
    last, _ = read_nanotron(VECTORS / f"{run}_ckpt/20", config, config.vocab_size)
    state = load_file(tmp_path / "checkpoints/20/optimizer.safetensors") | load_file(
        tmp_path / "checkpoints/20/weights.safetensors"
    )
    for name, tensor in last.items():
        assert (
            state.get(f"master.{name}", state[name]).float() - tensor.float()
        ).abs().max() <= weights, name


@needs_vectors
def test_the_optimizer_of_a_tensor_parallel_checkpoint_is_put_together() -> None:
    folder = VECTORS / "r5_ckpt" / "10"
    config = build(
        Recipe, yaml.safe_load((folder / "config.yaml").read_text()), ""
    ).model.model_config
    weights, _ = read_nanotron(folder, config, config.vocab_size)
    tensors = read_nanotron_optimizer(folder, config, config.vocab_size)
    assert {name.split(".", 1)[1] for name in tensors} == weights.keys()
    assert all(
        tensor.shape == weights[name.split(".", 1)[1]].shape for name, tensor in tensors.items()
    )
    files = sorted((folder / "optimizer").glob("*.pt"))
    rows = torch.cat(
        [torch.load(file, weights_only=True)["state"][0]["exp_avg_sq"] for file in files]
    )  # the embedding, cut by rows
    assert torch.equal(tensors["exp_avg_sq.token_embedding.weight"], rows)


@needs_vectors
def test_a_checkpoint_of_another_recipe_is_refused(tokenizer: Path, tmp_path: Path) -> None:
    def edit(value: dict[str, Any]) -> None:
        value["optimizer"]["clip_grad"] = 2.0

    done = Chain(tmp_path, "r1", tokenizer, edit).adopt(VECTORS / "r1_ckpt" / "10", 10)
    assert (
        done.returncode == 2
        and "optimizer.clip_grad: found 1.0, expected 2.0 as in the recipe" in done.stderr
    ), done.stderr
    assert not (tmp_path / "10.json").exists() and not (tmp_path / "checkpoints").exists()


@needs_vectors
def test_a_checkpoint_of_another_step_is_refused(tokenizer: Path, tmp_path: Path) -> None:
    done = Chain(tmp_path, "r1", tokenizer).adopt(VECTORS / "r1_ckpt" / "10", 15)
    assert (
        done.returncode == 2
        and "a checkpoint of step 10 after 2,560 tokens, expected step 15" in done.stderr
    ), done.stderr


def _adopt_model(folder: Path, output: Path) -> subprocess.CompletedProcess[str]:
    told = [
        "--entry",
        json.dumps({"folder": str(folder), "origin": "made in a test"}),
        "--model",
        "ita",
        "--title",
        "Zagreus",
    ]
    command = [
        sys.executable,
        "-P",
        "scripts/adopt_model.py",
        *told,
        "--checkpoint",
        "20",
        "--output",
        str(output / "manifest.json"),
    ]
    return subprocess.run(command, capture_output=True, text=True)


def test_a_transformers_model_takes_a_checkpoints_place(tmp_path: Path) -> None:
    small_model().save_pretrained(tmp_path / "theirs")
    PreTrainedTokenizerFast(
        tokenizer_object=small_tokenizer(), eos_token="<|im_end|>"
    ).save_pretrained(tmp_path / "theirs")
    done = _adopt_model(tmp_path / "theirs", tmp_path / "20")
    assert done.returncode == 0, done.stderr
    manifest = read_manifest(tmp_path / "20" / "manifest.json", "model")
    assert (manifest["name"], manifest["checkpoint"], manifest["adopted"]) == (
        "ita/20",
        "20",
        "made in a test",
    )
    assert (tmp_path / "20" / "model.safetensors").read_bytes() == (
        tmp_path / "theirs" / "model.safetensors"
    ).read_bytes()
    assert "made in a test" in (tmp_path / "20" / "README.md").read_text()
    (tmp_path / "theirs" / "model.safetensors").unlink()
    again = _adopt_model(tmp_path / "theirs", tmp_path / "21")
    assert (
        again.returncode == 2
        and "no model.safetensors, not a whole model folder" in again.stderr
        and not (tmp_path / "21").exists()
    )
