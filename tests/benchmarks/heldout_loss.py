"""What a choice of the recipe does to the loss on held-out text: `make bench
BENCH=bench_document_attention`, and `BENCH=bench_muon`.

Trains the model of a rendered recipe once for each variant and seed, by the trainer itself. Losses
do not depend on the machine's load.

    python -P tests/benchmarks/heldout_loss.py --study attention results/test/pretrain/ita/120.yaml
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import load_file

from zagreus.errors import InputError, run
from zagreus.model.documents import Marks
from zagreus.model.llama import Llama
from zagreus.recipe.read import read_recipe
from zagreus.recipe.schema import Muon, Recipe
from zagreus.training.loop import Ranks, join_ranks, run_segment
from zagreus.training.segment import plan_segment
from zagreus.training.validation import Validation

BATCHES = 4  # micro batches of each held-out folder for a curve; a look at all takes half a minute


class Run(NamedTuple):
    """A finished training: held-out loss by step, and the folder of its last checkpoint."""

    losses: dict[int, float]
    checkpoint: Path


def train(recipe: Recipe, folder: Path, ranks: Ranks, interval: int) -> Run:
    """Train a recipe to its last step, with the loss on held-out text every so many steps."""
    last = recipe.tokens.train_steps
    recipe = replace(
        recipe,
        tokens=replace(recipe.tokens, val_check_interval=interval, limit_val_batches=BATCHES),
        checkpoints=replace(
            recipe.checkpoints,
            checkpoints_path=str(folder / "checkpoints"),
            checkpoint_interval=last,
        ),
    )
    log = folder / f"{last}.jsonl"
    run_segment(plan_segment(recipe, last, None, [], ranks.count), ranks, log)
    lines = map(json.loads, log.read_text(encoding="utf-8").splitlines())
    losses = {line["step"]: line["heldout_loss"] for line in lines if "heldout_loss" in line}
    return Run(losses, folder / "checkpoints" / str(last))


def heldout_loss(recipe: Recipe, checkpoint: Path, within_documents: bool) -> float:
    """Return a checkpoint's loss on all held-out windows, with one of the two attentions."""
    shape = recipe.model.model_config
    model = Llama(shape, recipe.model.padded_vocab_size)
    model.load_state_dict(load_file(checkpoint / "weights.safetensors"))
    if within_documents:
        model.document_marks = Marks(shape.bos_token_id, shape.eos_token_id)
    whole = replace(recipe, tokens=replace(recipe.tokens, limit_val_batches=0))
    return float(Validation(whole).losses(model, torch.device("cpu"))["heldout_loss"])


def attention(recipe: Recipe, folder: Path, ranks: Ranks, seeds: list[int]) -> Iterator[str]:
    """Yield the rows of the table: each training attention, scored by both."""
    yield "| trained with attention over | seed | scored: window | scored: document |"
    yield "|---|---|---|---|"
    for seed in seeds:
        for name in (None, "document"):
            variant = replace(
                recipe,
                general=replace(recipe.general, seed=seed),
                zagreus=replace(recipe.zagreus, attention=name),
            )
            last = recipe.tokens.train_steps
            trained = train(variant, folder / f"{name}-{seed}", ranks, last)
            scores = [heldout_loss(variant, trained.checkpoint, within) for within in (False, True)]
            yield f"| {name or 'window'} | {seed} | {scores[0]:.4f} | {scores[1]:.4f} |"


def muon(
    recipe: Recipe, folder: Path, ranks: Ranks, seeds: list[int], rates: list[float]
) -> Iterator[str]:
    """Yield the rows of the table: each optimizer at each rate, and the first step at which it has
    AdamW's last loss at AdamW's best rate.
    """
    yield "| optimizer | learning rate | seed | last held-out loss | AdamW's best reached at |"
    yield "|---|---|---|---|---|"
    adam = recipe.optimizer.optimizer_factory
    factories = {
        "AdamW": adam,
        "Muon and AdamW": Muon(
            **{key: value for key, value in asdict(adam).items() if key != "name"}
        ),
    }
    for seed in seeds:
        best = float("inf")
        for name, factory in factories.items():
            for rate in rates:
                schedule = replace(recipe.optimizer.learning_rate_scheduler, learning_rate=rate)
                variant = replace(
                    recipe,
                    general=replace(recipe.general, seed=seed),
                    optimizer=replace(
                        recipe.optimizer,
                        optimizer_factory=factory,
                        learning_rate_scheduler=schedule,
                    ),
                )
                trained = train(variant, folder / f"{name}-{rate}-{seed}", ranks, 10)
                final = trained.losses[recipe.tokens.train_steps]
                reached = "-"
                if name == "AdamW":
                    best = min(best, final)
                else:
                    reached = str(
                        next(
                            (step for step, loss in trained.losses.items() if loss <= best), "never"
                        )
                    )
                yield f"| {name} | {rate:g} | {seed} | {final:.4f} | {reached} |"


def main() -> None:
    """Print the table of a study, a row as soon as it is there."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipe", type=Path, help="rendered by render_recipe")
    parser.add_argument("--study", choices=["attention", "muon"], required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[8, 9, 10])
    parser.add_argument("--rates", type=float, nargs="+", default=[0.0025, 0.005, 0.01, 0.02])
    arguments = parser.parse_args()
    recipe, ranks = read_recipe(arguments.recipe), join_ranks("cpu")
    if not recipe.zagreus.validation:
        raise InputError(f"{arguments.recipe}: no zagreus.validation, expected held-out tokens")
    with tempfile.TemporaryDirectory() as folder:
        rows = (
            attention(recipe, Path(folder), ranks, arguments.seeds)
            if arguments.study == "attention"
            else muon(recipe, Path(folder), ranks, arguments.seeds, arguments.rates)
        )
        for row in rows:
            print(row, flush=True)


if __name__ == "__main__":
    run(main)
