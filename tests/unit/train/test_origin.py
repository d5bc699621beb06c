"""Starting from another model: nanotron's checkpoints, transformers folders, our own.

And what does not fit.
"""

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from small import Training, environment
from transformers import LlamaConfig as TransformersConfig
from transformers import LlamaForCausalLM
from vectors import VECTORS, needs_vectors

from zagreus.errors import InputError
from zagreus.model.hf import from_hf_weights, hf_config, hf_weights
from zagreus.model.llama import Llama, initialize
from zagreus.model.nanotron import read_nanotron, step_folder
from zagreus.model.origin import origin_weights
from zagreus.recipe.read import read_recipe
from zagreus.recipe.schema import InitMethod, LlamaConfig, Recipe
from zagreus.recipe.strict import build
from zagreus.training.batches import Batches
from zagreus.training.segment import origin_sha256


def nanotron_recipe(folder: Path) -> Recipe:
    return build(Recipe, yaml.safe_load((folder / "config.yaml").read_text()), str(folder))


@needs_vectors
@pytest.mark.parametrize(("run", "step"), [("r1", 10), ("r1", 20), ("r2", 20), ("r5", 10)])
@pytest.mark.parametrize("kind", ["float32", "bfloat16"])
def test_nanotrons_checkpoints_give_its_logits_here_and_in_transformers(
    run: str, step: int, kind: str, tmp_path: Path
) -> None:
    folder = VECTORS / f"{run}_ckpt" / str(step)
    recipe, vectors = nanotron_recipe(folder), np.load(VECTORS / f"{run}_{step}.logits.npz")
    config = recipe.model.model_config
    weights, source = read_nanotron(folder, config, config.vocab_size)
    assert source == ("optimizer" if run == "r2" else "model")
    if run == "r2":  # nanotron's own logits are those of its bf16 weights
        assert all(tensor.dtype == torch.float32 for tensor in weights.values())
        weights = {name: tensor.bfloat16() for name, tensor in weights.items()}
    model = Llama(config)
    model.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
    ids = torch.from_numpy(vectors["input_ids"])
    with torch.no_grad():
        ours = model.logits(ids).numpy()
    assert np.abs(ours - vectors["nanotron_logits_float32"]).max() <= 1e-5
    # The transformers model, in fp32 or with weights rounded to bf16 (8 bits: 2^-9 of each weight
    # at most).
    dtype = getattr(torch, kind)
    save_file(
        hf_weights({name: tensor.to(dtype) for name, tensor in weights.items()}, config),
        tmp_path / "model.safetensors",
        {"format": "pt"},
    )
    (tmp_path / "config.json").write_text(
        json.dumps(hf_config(config, config.vocab_size, 64, kind))
    )
    reference = LlamaForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    with torch.no_grad():
        logits = reference(ids).logits.numpy()
    assert np.abs(logits - ours).max() <= (1e-4 if kind == "float32" else 2e-2) * np.abs(ours).max()


@needs_vectors
def test_fp32_masters_are_what_the_bf16_weights_are_rounded_from() -> None:
    folder = VECTORS / "r2_ckpt/20"
    config = nanotron_recipe(folder).model.model_config
    masters, _ = read_nanotron(folder, config, config.vocab_size)
    file = (
        folder
        / "model/model/decoder/1/pp_block/mlp/down_proj"
        / "model_weight_pp-rank-0-of-1_tp-rank-0-of-1.safetensors"
    )
    name = "decoder.1.mlp.down_proj.weight"
    assert torch.equal(masters[name].bfloat16(), load_file(file)["data"]) and not torch.equal(
        masters[name], masters[name].bfloat16().float()
    )


@needs_vectors
def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    shutil.copytree(VECTORS / "r5_ckpt/10", tmp_path / "10")
    config = nanotron_recipe(tmp_path / "10").model.model_config
    (lost,) = (tmp_path / "10/model/model/decoder/1/pp_block/attn/qkv_proj").glob("*tp-rank-1*")
    lost.parent.chmod(0o755)
    lost.unlink()
    with pytest.raises(
        InputError, match="found 1 tensor-parallel shards of .*qkv_proj.weight, expected 2"
    ):
        read_nanotron(tmp_path / "10", config, config.vocab_size)
    assert step_folder(VECTORS / "r1_ckpt").name == "20"


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("tied", [False, True])
def test_transformers_and_back(interleaved: bool, tied: bool) -> None:
    config = LlamaConfig(
        32,
        48,
        4,
        2,
        16,
        60,
        True,
        num_key_value_heads=2,
        rope_interleaved=interleaved,
        tie_word_embeddings=tied,
    )
    model = Llama(config)
    initialize(model, InitMethod(0.1), 1)
    weights = dict(model.named_parameters())
    again = from_hf_weights(hf_weights(weights, config), config)
    assert again.keys() == weights.keys() and all(
        torch.equal(again[name], weights[name]) for name in weights
    )


def start(training: Training, step: int, origin: Path) -> subprocess.CompletedProcess[str]:
    command = [*training.command(step), "--from", str(origin)]
    return subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=120)


def test_a_chain_goes_on_from_another_model_with_a_longer_context(tmp_path: Path) -> None:
    first, second = Training(tmp_path / "first"), Training(tmp_path / "second")
    assert first.train(30).returncode == 0
    text = (
        second.recipe.read_text()
        .replace("sequence_length: 16", "sequence_length: 32")
        .replace("rope_theta: 10000.0", "rope_theta: 50000.0")
    )
    second.recipe.write_text(text)
    done = start(second, 4, first.root / "30.json")
    assert done.returncode == 0, done.stderr
    assert second.train(8, 4).returncode == 0
    assert second.log(4)[0]["from"] == str(first.root / "30.json")
    assert (
        second.log(4)[1]["loss"] < first.log(30)[1]["loss"] - 0.05
    )  # it begins with what the other has learned
    manifest = json.loads((second.root / "4.json").read_text())
    assert manifest["origin_sha256"] == first.weights(30) and str(first.root / "30.json") in [
        item["path"] for item in manifest["inputs"]
    ]
    # The same step from nothing is another training.
    assert start(second, 12, first.root / "4.json").returncode == 2
    assert "checkpoints/8: a checkpoint of another recipe" in second.train(12).stderr


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    training = Training(tmp_path)
    recipe = read_recipe(training.recipe)
    config = recipe.model.model_config
    with pytest.raises(InputError, match="no model to start from"):
        origin_sha256(tmp_path / "nowhere")
    model = Llama(config)
    initialize(model, InitMethod(0.1), 1)
    folder = tmp_path / "hf"
    folder.mkdir()
    save_file(
        hf_weights(dict(model.named_parameters()), config),
        folder / "model.safetensors",
        {"format": "pt"},
    )
    (folder / "config.json").write_text(
        json.dumps(hf_config(config, config.vocab_size, 16, "float32"))
    )
    assert start(training, 2, folder).returncode == 0
    with pytest.raises(
        InputError, match="intermediate_size: found 64, expected 65 as in the recipe"
    ):
        origin_weights(folder, replace(config, intermediate_size=65), config.vocab_size)
    with pytest.raises(InputError, match="a vocabulary of 200 entries, expected 201"):
        origin_weights(folder, config, 201)
    # What transformers itself writes: without the keys that are its defaults.
    other = tmp_path / "saved"
    shape = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_attention_heads": 4,
        "num_hidden_layers": 1,
        "vocab_size": 60,
    }
    llama = LlamaForCausalLM(TransformersConfig(**shape))
    llama.save_pretrained(other)
    fitting = LlamaConfig(32, 64, 4, 1, 16, 60, True)
    assert torch.equal(origin_weights(other, fitting, 60)["lm_head.weight"], llama.lm_head.weight)
    LlamaForCausalLM(TransformersConfig(**shape, attention_bias=True)).save_pretrained(other)
    with pytest.raises(InputError, match="saved: a model with biases"):
        origin_weights(other, fitting, 60)
    about = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(about | {"model_type": "mistral"}))
    with pytest.raises(InputError, match="model_type: found mistral, expected llama"):
        origin_weights(other, fitting, 60)
    for scaled in (
        {"rope_parameters": {"rope_type": "llama3", "rope_theta": 5e5}},
        {"rope_parameters": None, "rope_scaling": {"type": "linear"}},
    ):
        (other / "config.json").write_text(json.dumps(about | scaled))
        with pytest.raises(
            InputError, match="rotary embedding '(llama3|linear)', expected default"
        ):
            origin_weights(other, fitting, 60)


@needs_vectors
def test_a_training_starts_from_a_tensor_parallel_nanotron_checkpoint(tmp_path: Path) -> None:
    """Its first loss is that of nanotron's weights, which have learned.

    Its second segment knows where it came from.
    """
    training, folder = Training(tmp_path), VECTORS / "r5_ckpt"
    origin_recipe = nanotron_recipe(folder / "10")
    value = yaml.safe_load(training.recipe.read_text())
    value["model"]["model_config"] = yaml.safe_load((folder / "10" / "config.yaml").read_text())[
        "model"
    ]["model_config"]
    value["data_stages"][0]["data"]["dataset"] |= {
        "dataset_folder": [str(VECTORS / "data" / "a")],
        "dataset_weights": [1.0],
    }
    training.recipe.write_text(yaml.safe_dump(value))
    training.tokens = []
    done = start(training, 2, folder)
    assert done.returncode == 0, done.stderr
    assert training.train(4, 2).returncode == 0
    recipe, config = read_recipe(training.recipe), origin_recipe.model.model_config
    model = Llama(config)
    model.load_state_dict(origin_weights(folder, config, config.vocab_size))
    losses = []
    for batch in Batches(recipe).next():
        token_losses = torch.nn.functional.cross_entropy(
            model.logits(batch.input_ids).transpose(1, 2), batch.labels, reduction="none"
        )
        losses.append(token_losses[batch.mask].mean().item())
    assert training.log(2)[1]["loss"] == pytest.approx(sum(losses) / len(losses), abs=1e-5)
