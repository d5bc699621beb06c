r"""Write the whole nanotron recipe of a checkpoint.

The config's mixture, tokenizer, seed and paths are filled into the recipe file.

    python scripts/render_recipe.py --recipe recipes/pretrain/demo.yaml --model ita --step 245 \
        --mixture '{"eng_wiki": 0.5, "ita_bible": 0.5}' \
        --tokenizer results/demo/tokenizer/manifest.json --tokens results/demo/tokens \
        --checkpoints results/demo/pretrain/ita/checkpoints \
        --output results/demo/pretrain/ita/245.yaml
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from zagreus.atomic import atomic_file
from zagreus.errors import run
from zagreus.recipe.ladder import rung_recipe
from zagreus.recipe.read import read_recipe, write_recipe
from zagreus.training.render import count_windows, render, token_ids


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--recipe", type=Path, required=True, help="recipe file (nanotron's schema)"
    )
    parser.add_argument("--model", required=True, help="name of the model")
    parser.add_argument(
        "--step", type=int, required=True, help="the checkpoint that the recipe ends with"
    )
    parser.add_argument(
        "--mixture",
        type=json.loads,
        required=True,
        help="share of each source in the samples, as JSON",
    )
    parser.add_argument("--seed", type=int, help="replaces the recipe file's seed")
    parser.add_argument(
        "--rung",
        type=json.loads,
        help="JSON, for a rung of the ladder: {size: overrides, steps, of: steps of the model}",
    )
    parser.add_argument(
        "--tokenizer", type=Path, required=True, help="manifest in the tokenizer's folder"
    )
    parser.add_argument(
        "--tokens",
        type=Path,
        required=True,
        help="folder that holds a folder of token shards for each source",
    )
    parser.add_argument(
        "--heldout",
        type=Path,
        nargs="*",
        default=[],
        help="folders of held-out token shards, each named as its source",
    )
    parser.add_argument("--checkpoints", required=True, help="folder for the model's checkpoints")
    parser.add_argument("--output", type=Path, required=True, help="the whole recipe")
    arguments = parser.parse_args()

    recipe = read_recipe(arguments.recipe)
    if arguments.rung:
        recipe = rung_recipe(recipe, arguments.rung)
    recipe = render(
        recipe,
        run=arguments.model,
        mixture=arguments.mixture,
        step=arguments.step,
        seed=arguments.seed,
        tokens=arguments.tokens,
        heldout=arguments.heldout,
        tokenizer=token_ids(arguments.tokenizer),
        checkpoints_path=arguments.checkpoints,
    )
    count_windows(recipe, recipe.tokens.train_steps)
    with atomic_file(arguments.output) as partial:
        write_recipe(recipe, partial)


if __name__ == "__main__":
    run(main)
