"""The model card of a base model (README.md, as the Hugging Face hub reads it)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from zagreus.languages import CODE, hub_codes, language_name
from zagreus.recipe.schema import Muon, Recipe


def model_card(
    name: str,
    title: str,
    recipe: Recipe,
    checkpoint: Mapping[str, Any],
    sources: Sequence[Mapping[str, Any]],
    difference: float,
) -> str:
    """Return the card's text.

    Args:
        name: the model's name.
        title: what people call it.
        recipe: the rendered recipe.
        checkpoint: manifest of the checkpoint.
        sources: for each source: `name`, `share`, `language`, `licence`.
        difference: largest difference of a logit between this model and the trainer's.
    """
    config, schedule = recipe.model.model_config, recipe.optimizer.learning_rate_scheduler
    languages = sorted(hub_codes(source["language"] for source in sources))
    head = yaml.safe_dump(
        {
            "language": languages,
            "library_name": "transformers",
            "pipeline_tag": "text-generation",
            "tags": ["llama", "base-model"],
        },
        sort_keys=False,
    )
    rows = [
        f"| {source['name']} | {_language(source['language'])} | {source['share']:.1%} | "
        f"{source['licence']} |"
        for source in sources
    ]
    adam = recipe.optimizer.optimizer_factory
    after = f"over the {schedule.lr_decay_steps} steps from {schedule.lr_decay_starting_step}"
    decay = f"{schedule.lr_decay_style} decay to {schedule.min_decay_lr:g} {after}"
    muon = (
        f"Muon, momentum {adam.muon_momentum}, for the matrices of the layers; else "
        if isinstance(adam, Muon)
        else ""
    )
    optimizer = (
        f"{muon}AdamW, betas {adam.adam_beta1} and {adam.adam_beta2}, weight decay "
        f"{recipe.optimizer.weight_decay}"
    )
    within = "each document of a window; this model attends to all of its input"
    attention = f"\n| attention | {within} |" if recipe.zagreus.attention == "document" else ""
    return f"""---
{head}---

# {title}

Base model `{name}` after step {checkpoint["step"]}: a Llama that continues text. It was not trained to follow instructions.

## Data

{checkpoint["tokens_seen"]:,} tokens seen, drawn by these shares:

| source | language | share | licence of the text |
|---|---|---|---|
{chr(10).join(rows)}

## Model

| | |
|---|---|
| layers, hidden size, inner size | {config.num_hidden_layers}, {config.hidden_size}, {config.intermediate_size} |
| heads, key and value heads | {config.num_attention_heads}, {config.key_value_heads} |
| vocabulary | {config.vocab_size:,}, {"tied" if config.tie_word_embeddings else "untied"} embeddings |
| sequence length | {recipe.tokens.sequence_length} |
| weights | {recipe.model.dtype} |

## Training

| | |
|---|---|
| global batch | {recipe.global_batch_size} sequences, {recipe.tokens_per_step:,} tokens |
| learning rate | {schedule.learning_rate:g}, {schedule.lr_warmup_steps} steps of warmup, {decay} |
| optimizer | {optimizer}, gradients clipped at {recipe.optimizer.clip_grad} |{attention}
| seed | {checkpoint["seed"]} |

The logits of this model and of the one that was trained differ by at most {difference:.1e} on held-out text from training.
The recipe as a whole, with the hashes of data and weights, is in the manifests that `manifest.json` names.
"""  # noqa: E501


def _language(code: str) -> str:
    return "Python code" if code == CODE else language_name(code)
