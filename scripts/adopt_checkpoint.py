r"""Put a nanotron checkpoint in the place of a base model's checkpoint.

The checkpoint gets this trainer's form, with its optimizer, and is hashed and recorded. Model,
optimizer, batch and number of tokens must be the recipe's. The data cannot be compared.

    python scripts/adopt_checkpoint.py --folder /old/zagreus-ita --origin 'trained by ... in 2025' \
        --recipe recipes/pretrain/zagreus.yaml --model ita --step 305000 \
        --mixture '{"fineweb": 1.0}' --tokenizer results/zagreus/tokenizer/manifest.json \
        --tokens results/zagreus/tokens --checkpoints results/zagreus/pretrain/ita/checkpoints \
        --output results/zagreus/pretrain/ita/305000.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from zagreus.atomic import atomic_file
from zagreus.config.yaml_file import read_mapping
from zagreus.errors import InputError, run
from zagreus.manifest import describe, write_manifest
from zagreus.recipe.read import fingerprint, read_recipe, recipe_slice, write_recipe
from zagreus.recipe.schema import Recipe
from zagreus.recipe.strict import build
from zagreus.training.render import render, token_ids

# Of a recipe's slice, what nanotron has no key for or what names this run's folders.
OURS = ("trainer", "data", "absent_weights", "end_of_data", "stage_schedules")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--folder",
        type=Path,
        required=True,
        help="the checkpoint's folder, or the one that holds it as STEP or in latest.txt",
    )
    parser.add_argument("--origin", required=True, help="who made it and how, for the manifest")
    parser.add_argument(
        "--recipe", type=Path, required=True, help="recipe file (nanotron's schema)"
    )
    parser.add_argument("--model", required=True, help="name of the model")
    parser.add_argument("--step", type=int, required=True, help="the checkpoint that it stands for")
    parser.add_argument(
        "--mixture",
        type=json.loads,
        required=True,
        help="share of each source in the samples, as JSON",
    )
    parser.add_argument("--seed", type=int, help="replaces the recipe file's seed")
    parser.add_argument(
        "--tokenizer", type=Path, required=True, help="manifest in the tokenizer's folder"
    )
    parser.add_argument(
        "--tokens",
        type=Path,
        required=True,
        help="folder that holds a folder of token shards for each source",
    )
    parser.add_argument("--checkpoints", required=True, help="folder for the model's checkpoints")
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        help="manifest, STEP.json; recipe and log go beside it",
    )
    arguments = parser.parse_args()

    recipe = render(
        read_recipe(arguments.recipe),
        run=arguments.model,
        mixture=arguments.mixture,
        step=arguments.step,
        seed=arguments.seed,
        tokens=arguments.tokens,
        heldout=[],
        tokenizer=token_ids(arguments.tokenizer),
        checkpoints_path=arguments.checkpoints,
    )

    import torch

    from zagreus.model.nanotron import (
        nanotron_steps,
        read_nanotron,
        read_nanotron_optimizer,
        step_folder,
    )
    from zagreus.training.checkpoint import State, save

    step, ours = arguments.step, recipe_slice(recipe, arguments.step)
    own = arguments.folder / str(step)
    source = own if own.is_dir() else step_folder(arguments.folder)
    check_same(source, ours, step)
    progress = nanotron_steps(source)
    if progress != (step, step * recipe.tokens_per_step):
        raise InputError(
            f"{source}: a checkpoint of step {progress[0]:,} after {progress[1]:,} tokens, "
            f"expected step {step:,} after {step * recipe.tokens_per_step:,}"
        )
    config, size, dtype = (
        recipe.model.model_config,
        recipe.model.padded_vocab_size,
        getattr(torch, recipe.model.dtype),
    )
    weights, _ = read_nanotron(source, config, size)
    plan = {
        "event": "start",
        "adopted": arguments.origin,
        "parameters": sum(tensor.numel() for tensor in weights.values()),
    }
    log = json.dumps(plan) + "\n"
    state = save(
        Path(arguments.checkpoints) / str(step),
        State(step, fingerprint(ours), None, [], progress[1], {}),
        {name: tensor.to(dtype) for name, tensor in weights.items()},
        read_nanotron_optimizer(source, config, size),
        [log],
    )
    with atomic_file(arguments.output.with_suffix(".yaml")) as partial:
        write_recipe(recipe, partial)
    with atomic_file(arguments.output.with_suffix(".jsonl")) as partial:
        partial.write_text(log, encoding="utf-8")
    write_manifest(
        arguments.output,
        kind="checkpoint",
        name=f"{arguments.model}/{step}",
        outputs=[Path(arguments.checkpoints) / str(step) / name for name in state.sha256],
        packages=["torch", "numpy", "safetensors"],
        circumstances={"folder": str(source)},
        model=arguments.model,
        step=step,
        seed=recipe.general.seed,
        tokens_seen=state.tokens,
        recipe_fingerprint=state.recipe,
        data_fingerprint=None,
        weights_sha256=state.sha256["weights.safetensors"],
        recipe=ours,
        origin_sha256=None,
        stage_weights=[],
        adopted=arguments.origin,
        origin=[
            describe(file) | {"path": str(file.relative_to(source))}
            for file in sorted(source.rglob("*"))
            if file.is_file()
        ],
    )


def check_same(folder: Path, ours: dict[str, Any], step: int) -> None:
    """Raise `InputError` where the recipe in a nanotron checkpoint would give other weights than
    ours, data apart.
    """
    if not (folder / "config.yaml").exists():
        raise InputError(f"{folder}: not a checkpoint of nanotron (no config.yaml)")
    checkpoint_recipe = recipe_slice(
        build(Recipe, read_mapping(folder / "config.yaml"), "config.yaml"), step
    )
    for key, value, expected in differences(checkpoint_recipe, ours):
        if key.split(".")[0] not in OURS:
            raise InputError(
                f"{folder / 'config.yaml'}: {key}: found {value}, expected {expected} as in the "
                "recipe of the model"
            )


def differences(other: Any, ours: Any, path: str = "") -> list[tuple[str, str, str]]:
    """Return (key, other, ours) of everything that differs between two JSON values."""
    if isinstance(other, dict) and isinstance(ours, dict):
        keys = dict.fromkeys([*ours, *other])
        return [
            difference
            for key in keys
            for difference in differences(
                other.get(key, "nothing"),
                ours.get(key, "nothing"),
                f"{path}.{key}".removeprefix("."),
            )
        ]
    return [] if other == ours else [(path, str(other), str(ours))]


if __name__ == "__main__":
    run(main)
