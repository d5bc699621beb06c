"""Parameter names of nanotron's checkpoints, for this project's Llama."""

from __future__ import annotations


def nanotron_name(name: str) -> str:
    """Return nanotron's name of a parameter: `decoder.0.attn.qkv_proj.weight` -> `model.decoder.0.pp_block.attn.qkv_proj.weight`."""
    if name.startswith("decoder."):
        _, index, rest = name.split(".", 2)
        return f"model.decoder.{index}.pp_block.{rest}"
    return {
        "token_embedding.weight": "model.token_position_embeddings.pp_block.token_embedding.weight",
        "final_layer_norm.weight": "model.final_layer_norm.pp_block.weight",
        "lm_head.weight": "model.lm_head.pp_block.weight",
    }[name]
