"""Texts that a model writes: greedy, and drawn with a seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from tqdm import tqdm

from zagreus.evaluation.templates import render

TEMPERATURE, TOP_P = 0.8, 0.95


def prompts_of(
    tokenizer: Any, prompts: Mapping[str, Sequence[str]], chat: bool
) -> list[dict[str, Any]]:
    """Return what the model is given.

    `{language, prompt, ids}`, the prompt through the chat template for a chat model.
    """
    encoded = []
    for language, texts in prompts.items():
        for text in texts:
            if chat:
                rendered = render(
                    tokenizer, [{"role": "user", "content": text}], "the model of the samples"
                )
                ids = tokenizer(rendered, add_special_tokens=False).input_ids
            else:
                ids = tokenizer(text).input_ids
            encoded.append({"language": language, "prompt": text, "ids": ids})
    return encoded


def write(
    model: Any, tokenizer: Any, prompts: Sequence[Mapping[str, Any]], tokens: int, seed: int
) -> list[dict[str, Any]]:
    """Return two texts per prompt, the likeliest token each time (`greedy`) and a drawn one
    (`sampled`).

    Each is `{language, prompt, method, text, ended, tokens}`: `ended` says that the model ended the
    text itself, within `tokens`.
    """
    samples = []
    for number, prompt in enumerate(tqdm(prompts, desc="prompts")):
        for method in ("greedy", "sampled"):
            # A seed for each prompt: a prompt's text does not depend on those before it.
            torch.manual_seed(seed + number)
            drawing = (
                {"do_sample": True, "temperature": TEMPERATURE, "top_p": TOP_P, "top_k": 0}
                if method == "sampled"
                else {"do_sample": False}
            )
            ids = torch.tensor([prompt["ids"]], device=model.device)
            with torch.inference_mode():
                written = model.generate(
                    ids,
                    attention_mask=torch.ones_like(ids),
                    max_new_tokens=tokens,
                    pad_token_id=tokenizer.eos_token_id,
                    **drawing,
                )[0, ids.shape[1] :].tolist()
            ended = tokenizer.eos_token_id in written
            written = written[: written.index(tokenizer.eos_token_id)] if ended else written
            samples.append(
                {
                    "language": prompt["language"],
                    "prompt": prompt["prompt"],
                    "method": method,
                    "text": tokenizer.decode(written, skip_special_tokens=True),
                    "ended": ended,
                    "tokens": len(written),
                }
            )
    return samples
