"""Generate texts with a model: a greedy and a sampled text for each prompt.

A chat model gets its prompts through its chat template.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}

import torch
import transformers

from zagreus.errors import InputError, run
from zagreus.evaluation.folder import check_chat, check_folder
from zagreus.evaluation.samples import TEMPERATURE, TOP_P, prompts_of, write
from zagreus.launch.gpus import claim_gpus
from zagreus.manifest import read_manifest, write_manifest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, type=Path, help="manifest of the model folder")
    parser.add_argument(
        "--prompts", required=True, type=json.loads, help="JSON: {language: [prompt, ...]}"
    )
    parser.add_argument(
        "--chat", action="store_true", help="put the prompts through the chat template"
    )
    parser.add_argument("--tokens", required=True, type=int, help="the longest continuation")
    parser.add_argument("--seed", type=int, default=0, help="seed of the drawn texts")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--output", required=True, type=Path, help="the samples, a manifest")
    arguments = parser.parse_args()

    torch.set_num_threads(arguments.threads)
    manifest, folder = read_manifest(arguments.model, "model"), arguments.model.parent
    check_folder(folder)
    if not any(arguments.prompts.values()):
        raise InputError(f"no prompts for {manifest['name']}, expected at least one")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    if arguments.chat:
        check_chat(tokenizer, folder)
    claim_gpus(1)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = (
        transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        .to(device)
        .eval()
    )
    prompts = prompts_of(tokenizer, arguments.prompts, arguments.chat)
    longest = max(len(prompt["ids"]) for prompt in prompts) + arguments.tokens
    if longest > model.config.max_position_embeddings:
        raise InputError(
            f"a prompt and {arguments.tokens} tokens are {longest} tokens, but {folder} takes "
            f"{model.config.max_position_embeddings}"
        )
    write_manifest(
        arguments.output,
        kind="samples",
        name=manifest["name"],
        inputs=[arguments.model],
        packages=["torch", "transformers"],
        model=manifest["model"],
        checkpoint=manifest["checkpoint"],
        chat=arguments.chat,
        seed=arguments.seed,
        temperature=TEMPERATURE,
        top_p=TOP_P,
        samples=write(model, tokenizer, prompts, arguments.tokens, arguments.seed),
    )


if __name__ == "__main__":
    run(main)
