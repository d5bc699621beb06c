"""First weights that come from another model.

A checkpoint of this trainer, one of nanotron's, or a transformers Llama.
"""

from __future__ import annotations

import json
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

from zagreus.errors import InputError
from zagreus.manifest import read_manifest
from zagreus.model.hf import from_hf_weights
from zagreus.model.nanotron import read_nanotron, step_folder
from zagreus.recipe.schema import LlamaConfig

# What two models must have in common for the weights of one to be the other's. Positions are not
# among it: rope_theta and the sequence's length may change, for a longer context.
_SHAPE = (
    "hidden_size",
    "intermediate_size",
    "num_attention_heads",
    "num_hidden_layers",
    "num_key_value_heads",
    "tie_word_embeddings",
)


def origin_weights(origin: Path, config: LlamaConfig, vocab_size: int) -> dict[str, Tensor]:
    """Return the weights of another model by this project's names, in fp32 where it keeps them.

    Args:
        origin: manifest of a checkpoint, folder of a nanotron checkpoint, or folder of a
            transformers Llama.
        config: the model that takes the weights.
        vocab_size: rows of its embedding, padding included.

    Raises:
        InputError: no such origin, or a model of another shape.
    """
    if origin.suffix == ".json":
        files = {
            Path(item["path"]).name: Path(item["path"])
            for item in read_manifest(origin, "checkpoint")["outputs"]
        }
        weights = load_file(files["weights.safetensors"])
        masters = {
            name: tensor
            for name, tensor in load_file(files["optimizer.safetensors"]).items()
            if name.startswith("master.")
        }
        weights |= {name.removeprefix("master."): tensor for name, tensor in masters.items()}
    elif (origin / "latest.txt").exists() or (origin / "model_config.json").exists():
        origin = step_folder(origin)
        _same_shape(origin / "model_config.json", config)
        weights, _ = read_nanotron(origin, config, vocab_size)
    elif (origin / "config.json").exists():
        _same_shape(origin / "config.json", config)
        shards = sorted(origin.glob("*.safetensors"))
        if not shards:
            raise InputError(f"{origin}: no *.safetensors in the folder of a transformers model")
        weights = from_hf_weights(_llama_weights(origin, shards), config)
    else:
        raise InputError(
            f"{origin}: no model (expected config.json of transformers, or model_config.json or "
            "latest.txt of nanotron)"
        )
    rows = len(weights["token_embedding.weight"])
    if rows != vocab_size:
        raise InputError(f"{origin}: a vocabulary of {rows} entries, expected {vocab_size}")
    return weights


def _llama_weights(folder: Path, shards: list[Path]) -> dict[str, Tensor]:
    """Return the tensors of a transformers folder.

    Raise `InputError` where it is no Llama as this trainer has it.
    """
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if config.get("model_type") != "llama":
        raise InputError(
            f"{folder / 'config.json'}: model_type: found {config.get('model_type')}, expected "
            "llama"
        )
    # transformers 5 writes rope_parameters, older ones rope_scaling.
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if (kind := rope.get("rope_type", rope.get("type", "default"))) != "default":
        raise InputError(
            f"{folder / 'config.json'}: rotary embedding '{kind}', expected default: this trainer "
            "does not scale positions"
        )
    tensors = {name: tensor for file in shards for name, tensor in load_file(file).items()}
    biases = [name for name in tensors if name.endswith(".bias")]
    if biases:
        raise InputError(
            f"{folder}: a model with biases ({biases[0]}), which this trainer has none of"
        )
    return tensors


def _same_shape(file: Path, config: LlamaConfig) -> None:
    """Raise `InputError` where a model's config (nanotron's or transformers') is of another shape
    than the recipe's model.
    """
    origin_config = json.loads(file.read_text(encoding="utf-8"))
    # transformers leaves out what its Llama has by default.
    origin_config = {
        "tie_word_embeddings": False,
        "num_key_value_heads": origin_config.get("num_attention_heads"),
        **origin_config,
    }
    for key in _SHAPE:
        ours = config.key_value_heads if key == "num_key_value_heads" else getattr(config, key)
        if origin_config.get(key) != ours:
            raise InputError(
                f"{file}: {key}: found {origin_config.get(key)}, expected {ours} as in the recipe"
            )
