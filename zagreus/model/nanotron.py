"""nanotron's checkpoints: parameter names, and reading one from its files without nanotron."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from zagreus.errors import InputError
from zagreus.model.llama import Llama
from zagreus.recipe.schema import LlamaConfig

_RANK = re.compile(r"_tp-rank-(\d+)-of-(\d+)\.safetensors$")


def nanotron_name(name: str) -> str:
    """Return nanotron's name of a parameter.

    `decoder.0.attn.qkv_proj.weight` -> `model.decoder.0.pp_block.attn.qkv_proj.weight`.
    """
    if name.startswith("decoder."):
        _, index, rest = name.split(".", 2)
        return f"model.decoder.{index}.pp_block.{rest}"
    return {
        "token_embedding.weight": "model.token_position_embeddings.pp_block.token_embedding.weight",
        "final_layer_norm.weight": "model.final_layer_norm.pp_block.weight",
        "lm_head.weight": "model.lm_head.pp_block.weight",
    }[name]


def step_folder(folder: Path) -> Path:
    """Return the folder of one step: itself, or the one that `latest.txt` names.

    Raise `InputError` where there is none.
    """
    if (folder / "latest.txt").exists():
        folder = folder / (folder / "latest.txt").read_text(encoding="utf-8").strip()
    if not (folder / "model_config.json").exists() or not (folder / "model").is_dir():
        raise InputError(
            f"{folder}: not a checkpoint of nanotron (expected model_config.json, config.yaml and "
            "model/)"
        )
    return folder


def read_nanotron(
    folder: Path, config: LlamaConfig, vocab_size: int
) -> tuple[dict[str, Tensor], str]:
    """Read the weights of a nanotron checkpoint, tensor and pipeline parallel ones too.

    Args:
        folder: the folder of a step.
        config: the model's.
        vocab_size: rows of the embedding, padding included.

    Returns:
        The weights by this project's names, and where they are from: `optimizer` (its fp32 masters)
        or `model`.

    Raises:
        InputError: a parameter or a shard that is missing, or of another shape than the config
            gives.
    """
    masters = _kept(folder, _masters)
    return _gather(folder, config, vocab_size, masters), "optimizer" if masters else "model"


def read_nanotron_optimizer(
    folder: Path, config: LlamaConfig, vocab_size: int
) -> dict[str, Tensor]:
    """Return the optimizer's tensors of a nanotron checkpoint as a checkpoint of this trainer holds
    them: `exp_avg.NAME`, `exp_avg_sq.NAME`, and the fp32 weights `master.NAME` where it keeps any.

    Raises:
        InputError: there is no state of the optimizer, or not one of every parameter.
    """
    tensors: dict[str, Tensor] = {}
    for key in ("exp_avg", "exp_avg_sq"):
        moments = _kept(folder, partial(_moments, key=key))
        if not moments:
            raise InputError(
                f"{folder / 'optimizer'}: no state of the optimizer; without it training cannot "
                "go on as it would have"
            )
        tensors |= {
            f"{key}.{name}": tensor
            for name, tensor in _gather(folder, config, vocab_size, moments, every=True).items()
        }
    masters = _kept(folder, _masters)
    if masters:
        tensors |= {
            f"master.{name}": tensor
            for name, tensor in _gather(folder, config, vocab_size, masters).items()
        }
    return tensors


def _gather(
    folder: Path,
    config: LlamaConfig,
    vocab_size: int,
    kept: list[dict[str, Tensor]],
    every: bool = False,
) -> dict[str, Tensor]:
    """Return the parameters, or what the optimizer keeps of each, put together from the shards of
    all ranks.

    Args:
        kept: the optimizer's tensors, one mapping a tensor-parallel rank; they lie in the whole as
            the parameters do. Without any, or where it keeps none of a parameter, the parameter
            itself is taken.
        every: all parameters must be in `kept`.
    """
    with torch.device("meta"):
        shapes = {
            name: parameter.shape
            for name, parameter in Llama(config, vocab_size).named_parameters()
        }
    weights = {}
    for name, shape in shapes.items():
        parameter_name = nanotron_name(name)
        base = folder / "model" / parameter_name.removesuffix(".weight").replace(".", "/")
        files = sorted(base.glob("model_weight*.safetensors"), key=_rank)
        if not files:
            raise InputError(
                f"{base}: no file model_weight*.safetensors of the parameter {parameter_name}"
            )
        shards = [_shard(file) for file in files]
        if every and any(parameter_name not in rank for rank in kept):
            raise InputError(f"{folder / 'optimizer'}: no state of the parameter {parameter_name}")
        if len(shards) == 1 and not _RANK.search(files[0].name):
            whole = kept[0].get(parameter_name, shards[0][0]) if kept else shards[0][0]
        else:
            count = int(_RANK.search(files[0].name)[2])  # type: ignore[index]
            if [_rank(file) for file in files] != list(range(count)):
                raise InputError(
                    f"{base}: found {len(files)} tensor-parallel shards of {parameter_name}, "
                    f"expected {count}"
                )
            whole = torch.empty(shape, dtype=torch.float32 if kept else shards[0][0].dtype)
            filled = 0
            for rank, (tensor, pairs) in enumerate(shards):
                tensor = kept[rank].get(parameter_name, tensor) if kept else tensor
                for local, target in pairs:
                    if len(target) != len(shape) or any(
                        (part.stop or 0) > size for part, size in zip(target, shape, strict=True)
                    ):
                        raise InputError(
                            f"{files[rank]}: a shard of another shape than {tuple(shape)}, which "
                            "model_config.json gives"
                        )
                    whole[target] = tensor[local]
                    filled += tensor[local].numel()
            if filled != whole.numel():
                raise InputError(
                    f"{base}: the shards hold {filled:,} of {whole.numel():,} numbers of "
                    f"{parameter_name}"
                )
        if whole.shape != shape:
            raise InputError(
                f"{base}: found the shape {tuple(whole.shape)}, expected {tuple(shape)} as "
                "model_config.json gives"
            )
        weights[name] = whole
    return weights


def _rank(file: Path) -> int:
    match = _RANK.search(file.name)
    return int(match[1]) if match else 0


def _shard(file: Path) -> tuple[Tensor, list[tuple[tuple[slice, ...], tuple[slice, ...]]]]:
    """Return a file's tensor, and which parts of it go where in the whole (all of it where the file
    does not say).
    """
    with safe_open(file, "pt") as opened:
        tensor, about = opened.get_tensor("data"), opened.metadata() or {}
    pairs = []
    for pair in filter(None, about.get("local_global_slices_pairs", "").split(";")):
        local, target = (
            tuple(_slice(part) for part in side.split("|")) for side in pair.split("#")
        )
        pairs.append((local, target))
    if not pairs:
        whole = tuple(slice(0, size) for size in tensor.shape)
        pairs = [(whole, whole)]
    return tensor, pairs


def _slice(text: str) -> slice:
    """Read `start,stop,step`, each a number or None."""
    return slice(
        *(
            None if part.strip() == "None" else int(ast.literal_eval(part.strip()))
            for part in text.split(",")
        )
    )


def _masters(content: dict[str, Any]) -> dict[str, Tensor] | None:
    """Return the fp32 weights in a file of the optimizer, where it keeps any."""
    return content.get("gradient_accumulator")


def _moments(content: dict[str, Any], key: str) -> dict[str, Tensor]:
    """Return one of Adam's moments in a file of the optimizer."""
    return {name: content["state"][index][key] for index, name in content["names"].items()}


def _kept(
    folder: Path, part: Callable[[dict[str, Any]], dict[str, Tensor] | None]
) -> list[dict[str, Tensor]]:
    """Return a part of the optimizer's files, one mapping a tensor-parallel rank.

    Empty where there is none.
    """
    by_rank: dict[int, dict[str, Tensor]] = {}
    for file in sorted((folder / "optimizer").glob("optimizer_pp-*_tp-*.pt")):
        rank = int(re.search(r"_tp-(\d+)-of-", file.name)[1])  # type: ignore[index]
        kept = part(torch.load(file, map_location="cpu", weights_only=True))
        if kept:
            by_rank.setdefault(rank, {}).update(kept)
    return [by_rank[rank] for rank in sorted(by_rank)]


def nanotron_steps(folder: Path) -> tuple[int, int]:
    """Return the step of a nanotron checkpoint and the tokens that it has seen."""
    about = json.loads((folder / "checkpoint_metadata.json").read_text(encoding="utf-8"))["metas"]
    return about["last_train_step"], about["consumed_tokens_total"]
