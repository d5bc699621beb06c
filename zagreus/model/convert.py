"""From a checkpoint to a transformers model, with proof that both give the same logits."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path

import pyarrow.parquet
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional
from transformers import AutoTokenizer, LlamaForCausalLM

from zagreus.errors import InputError
from zagreus.model.hf import hf_config, hf_weights
from zagreus.model.llama import Llama
from zagreus.recipe.schema import Recipe

# Largest difference allowed, as a share of the largest logit. Both models compute in fp32 (24 bits,
# 6e-8) from the same weights and differ in the order of their sums over at most a few thousand
# terms in each of the layers: 1e-6 is seen; a wrong layout gives differences of the order of 1.
TOLERANCE = 1e-4


# Positions whose logits are compared at a time: 256 x 128,256 x 4 bytes are 131 MB.
SLICE = 256
# Positions of each text but the longest, which is compared as long as training's sequences.
SHORT = 512


def checkpoint_weights(weights: Path, dtype: str) -> dict[str, Tensor]:
    """Return a checkpoint's weights in a type.

    Fp32 ones from the optimizer's file beside them where it keeps any, and bf16 ones rounded.
    """
    tensors = load_file(weights)
    if dtype == "float32" and any(tensor.dtype != torch.float32 for tensor in tensors.values()):
        # Only the masters: Adam's moments are two thirds of the file.
        with safe_open(weights.with_name("optimizer.safetensors"), "pt") as kept:
            names = [name for name in kept.keys() if name.startswith("master.")]  # noqa: SIM118
            masters = {name.removeprefix("master."): name for name in names}
            tensors = {
                name: kept.get_tensor(masters[name]) if name in masters else tensor
                for name, tensor in tensors.items()
            }
    return {name: tensor.to(getattr(torch, dtype)) for name, tensor in tensors.items()}


def write_hf(
    recipe: Recipe, weights: dict[str, Tensor], dtype: str, tokenizer: Path, folder: Path
) -> None:
    """Write config, weights (of the type `dtype`), generation config and tokenizer of a
    transformers Llama into `folder`.
    """
    config = recipe.model.model_config
    save_file(hf_weights(weights, config), folder / "model.safetensors", metadata={"format": "pt"})
    content = hf_config(
        config, recipe.model.padded_vocab_size, recipe.tokens.sequence_length, dtype
    )
    _write_json(folder / "config.json", content)
    # A base model ends a text with end of text; sampling settings are the caller's.
    _write_json(
        folder / "generation_config.json",
        {"bos_token_id": config.bos_token_id, "eos_token_id": config.eos_token_id},
    )
    for item in sorted(tokenizer.iterdir()):
        if item.is_file() and not item.name.startswith((".", "manifest.")):
            shutil.copyfile(item, folder / item.name)


def logit_difference(
    recipe: Recipe, weights: dict[str, Tensor], folder: Path, texts: list[str]
) -> tuple[float, float]:
    """Compare the trainer's model with the transformers model in `folder`, both computing in fp32
    on a CPU.

    One model is in memory at a time, and its logits are never whole: see `comparison_memory`. The
    longest text is read as one sequence as long as training's at most, the others up to `SHORT`.

    Args:
        texts: each is read from its beginning.

    Returns:
        The largest absolute difference of any logit, and the largest absolute logit; NaN where a
        logit is.
    """
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if len(tokenizer) > recipe.model.padded_vocab_size:
        raise InputError(
            f"{folder}: the tokenizer has {len(tokenizer)} entries, the model "
            f"{recipe.model.padded_vocab_size}"
        )
    rows = [tokenizer(text)["input_ids"][: recipe.tokens.sequence_length] for text in texts]
    longest = max(range(len(rows)), key=lambda index: len(rows[index]))
    inputs = [
        torch.tensor([row if index == longest else row[:SHORT]]) for index, row in enumerate(rows)
    ]
    with torch.no_grad():
        our_states, our_head = _our_states(recipe, weights, inputs)
        model = LlamaForCausalLM.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="sdpa"
        ).eval()
        differences, sizes = [], []
        for ids, states in zip(inputs, our_states, strict=True):
            hidden = model.model(ids, use_cache=False).last_hidden_state
            for ours, reference in zip(
                states.split(SLICE, dim=1), hidden.split(SLICE, dim=1), strict=True
            ):
                logits = functional.linear(ours, our_head)
                sizes.append(logits.abs().max())
                differences.append(logits.sub_(model.lm_head(reference)).abs_().max())
    # torch's maximum is NaN where any is; Python's max() would pass over it.
    return float(torch.stack(differences).max()), float(torch.stack(sizes).max())


def _our_states(
    recipe: Recipe, weights: dict[str, Tensor], inputs: list[Tensor]
) -> tuple[list[Tensor], Tensor]:
    """Return the trainer's hidden states of each text, and its output matrix; the model goes."""
    model = Llama(recipe.model.model_config, recipe.model.padded_vocab_size)
    for name, parameter in model.named_parameters():
        parameter.copy_(weights[name])
    states = [model(ids) for ids in inputs]
    return states, model.head.detach().clone()


def held_apart_texts(files: Iterable[Path], per_file: int = 2) -> list[str]:
    """Return the first `per_file` held-out documents of every file.

    Raise `InputError` where there is none at all.
    """
    texts: list[str] = []
    for file in files:
        texts += (
            pyarrow.parquet.read_table(file, columns=["text"])["text"]
            .slice(0, per_file)
            .to_pylist()
        )
    if not texts:
        raise InputError("no held-out document to compare logits on")
    return texts


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
