"""The Llama in transformers' form: config and weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from zagreus.model.versions import for_both_versions
from zagreus.recipe.schema import LlamaConfig


def hf_config(
    config: LlamaConfig, vocab_size: int, sequence_length: int, dtype: str
) -> dict[str, Any]:
    """Return the content of `config.json`, which transformers 4 and 5 read alike."""
    content = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": config.bos_token_id,
        "dtype": dtype,
        "eos_token_id": config.eos_token_id,
        "head_dim": config.head_size,
        "hidden_act": config.hidden_act,
        "hidden_size": config.hidden_size,
        "initializer_range": config.initializer_range,
        "intermediate_size": config.intermediate_size,
        "max_position_embeddings": sequence_length,
        "mlp_bias": False,
        "num_attention_heads": config.num_attention_heads,
        "num_hidden_layers": config.num_hidden_layers,
        "num_key_value_heads": config.key_value_heads,
        "pad_token_id": config.pad_token_id,
        "pretraining_tp": 1,
        "rms_norm_eps": config.rms_norm_eps,
        "rope_parameters": {"rope_theta": config.rope_theta, "rope_type": "default"},
        "tie_word_embeddings": config.tie_word_embeddings,
        "use_cache": config.use_cache,
        "vocab_size": vocab_size,
    }
    return for_both_versions(content)


def hf_weights(weights: dict[str, Tensor], config: LlamaConfig) -> dict[str, Tensor]:
    """Return transformers' weights for those of `zagreus.model.llama.Llama`.

    Fused matrices cut apart, a tied head left out, and rows of
    queries and keys put into transformers' order of RoPE pairs (i, i + D/2) where training rotated
    neighbours (2i, 2i + 1)."""
    size, query, pair = (
        config.head_size,
        config.num_attention_heads * config.head_size,
        config.key_value_heads * config.head_size,
    )
    result = {
        "model.embed_tokens.weight": weights["token_embedding.weight"],
        "model.norm.weight": weights["final_layer_norm.weight"],
    }
    if not config.tie_word_embeddings:
        result["lm_head.weight"] = weights["lm_head.weight"]
    for index in range(config.num_hidden_layers):
        ours, hf_prefix = f"decoder.{index}", f"model.layers.{index}"
        q, k, v = weights[f"{ours}.attn.qkv_proj.weight"].split((query, pair, pair))
        if config.rope_interleaved:
            q, k = _pairs_to_halves(q, size), _pairs_to_halves(k, size)
        gate, up = weights[f"{ours}.mlp.gate_up_proj.weight"].chunk(2)
        result |= {
            f"{hf_prefix}.self_attn.q_proj.weight": q,
            f"{hf_prefix}.self_attn.k_proj.weight": k,
            f"{hf_prefix}.self_attn.v_proj.weight": v,
            f"{hf_prefix}.self_attn.o_proj.weight": weights[f"{ours}.attn.o_proj.weight"],
            f"{hf_prefix}.mlp.gate_proj.weight": gate,
            f"{hf_prefix}.mlp.up_proj.weight": up,
            f"{hf_prefix}.mlp.down_proj.weight": weights[f"{ours}.mlp.down_proj.weight"],
            f"{hf_prefix}.input_layernorm.weight": weights[f"{ours}.input_layernorm.weight"],
            f"{hf_prefix}.post_attention_layernorm.weight": weights[
                f"{ours}.post_attention_layernorm.weight"
            ],
        }
    return {name: tensor.contiguous() for name, tensor in result.items()}


def from_hf_weights(weights: dict[str, Tensor], config: LlamaConfig) -> dict[str, Tensor]:
    """Return `zagreus.model.llama.Llama`'s weights for those of a transformers Llama.

    The inverse of `hf_weights`.
    """
    size = config.head_size
    result = {
        "token_embedding.weight": weights["model.embed_tokens.weight"],
        "final_layer_norm.weight": weights["model.norm.weight"],
    }
    if not config.tie_word_embeddings:
        result["lm_head.weight"] = weights["lm_head.weight"]
    for index in range(config.num_hidden_layers):
        ours, hf_prefix = f"decoder.{index}", f"model.layers.{index}"
        q, k, v = (weights[f"{hf_prefix}.self_attn.{name}_proj.weight"] for name in "qkv")
        if config.rope_interleaved:
            q, k = _halves_to_pairs(q, size), _halves_to_pairs(k, size)
        result |= {
            f"{ours}.attn.qkv_proj.weight": torch.cat((q, k, v)),
            f"{ours}.attn.o_proj.weight": weights[f"{hf_prefix}.self_attn.o_proj.weight"],
            f"{ours}.mlp.gate_up_proj.weight": torch.cat(
                [weights[f"{hf_prefix}.mlp.{name}_proj.weight"] for name in ("gate", "up")]
            ),
            f"{ours}.mlp.down_proj.weight": weights[f"{hf_prefix}.mlp.down_proj.weight"],
            f"{ours}.input_layernorm.weight": weights[f"{hf_prefix}.input_layernorm.weight"],
            f"{ours}.post_attention_layernorm.weight": weights[
                f"{hf_prefix}.post_attention_layernorm.weight"
            ],
        }
    return result


def _halves_to_pairs(rows: Tensor, size: int) -> Tensor:
    """Reorder the rows of each head from (0, 2, ..., 1, 3, ...) to (0, 1, 2, 3, ...)."""
    heads = rows.view(-1, 2, size // 2, rows.shape[1])
    return torch.stack((heads[:, 0], heads[:, 1]), dim=2).reshape(rows.shape)


def _pairs_to_halves(rows: Tensor, size: int) -> Tensor:
    """Reorder the rows of each head from (0, 1, 2, 3, ...) to (0, 2, ..., 1, 3, ...)."""
    heads = rows.view(-1, size // 2, 2, rows.shape[1])
    return torch.cat((heads[:, :, 0], heads[:, :, 1]), dim=1).reshape(rows.shape)
