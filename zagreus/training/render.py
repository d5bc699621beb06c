"""Filling in a recipe: what the config says of a model, in nanotron's schema."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from zagreus.errors import InputError
from zagreus.manifest import read_manifest
from zagreus.recipe.read import check_mixture, check_steps, resolved
from zagreus.recipe.schema import Recipe, ValidationFolder
from zagreus.training.nanoset import open_folders
from zagreus.training.segment import need_windows


@dataclass
class TokenIds:
    """What a recipe needs to know of a tokenizer."""

    folder: Path
    vocab_size: int
    bos: int
    eos: int


def token_ids(manifest_path: Path) -> TokenIds:
    """Read a tokenizer's size and special ids from its folder.

    Raise `InputError` where its manifest and its files disagree.
    """
    manifest, folder = read_manifest(manifest_path, "tokenizer"), manifest_path.parent
    content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    ids = {token["content"]: token["id"] for token in content["added_tokens"]}
    # A tokenizer without a begin token: the end token stands at both places, as in Qwen's models.
    tokens = {"eos_token": manifest["eos_token"]}
    tokens["bos_token"] = manifest["bos_token"] or manifest["eos_token"]
    for key in tokens:
        if tokens[key] not in ids:
            raise InputError(
                f"{folder / 'tokenizer.json'}: no special token '{tokens[key]}', which "
                f"{manifest_path} gives as {key}"
            )
    return TokenIds(
        folder, manifest["vocab_size"], ids[tokens["bos_token"]], ids[tokens["eos_token"]]
    )


def render(
    recipe: Recipe,
    *,
    run: str,
    mixture: Mapping[str, float],
    step: int,
    seed: int | None,
    tokens: Path,
    heldout: Sequence[Path],
    tokenizer: TokenIds,
    checkpoints_path: str,
) -> Recipe:
    """Return the recipe of one checkpoint.

    Folders, weights, tokenizer, vocabulary, paths and seed filled in, `train_steps` at the
    checkpoint with the learning rate of every step as it was.

    Args:
        mixture: share of each source in the samples.
        step: the checkpoint.
        seed: replaces the recipe's where given.
        tokens: folder of the sources' token folders.
        heldout: folders of held-out tokens, each named as its source, for a recipe that asks for
            `tokens.val_check_interval`.

    Raises:
        InputError: shares that do not sum to 1, a checkpoint that cannot be reached, special ids
            that are not the tokenizer's.
    """
    check_mixture(mixture)
    check_steps(recipe, [step])
    config = recipe.model.model_config
    for key, value, expected in (
        ("vocab_size", config.vocab_size, tokenizer.vocab_size),
        ("bos_token_id", config.bos_token_id, tokenizer.bos),
        ("eos_token_id", config.eos_token_id, tokenizer.eos),
    ):
        if value not in (-1, expected):
            raise InputError(
                f"model.model_config.{key}: found {value}, expected {expected} as in "
                f"{tokenizer.folder} (or -1)"
            )
    config = replace(
        config,
        vocab_size=tokenizer.vocab_size,
        bos_token_id=tokenizer.bos,
        eos_token_id=tokenizer.eos,
    )
    # A stage that names its own folders keeps them.
    folders, weights = (
        [str(tokens / source) for source in mixture],
        [float(share) for share in mixture.values()],
    )
    stages = [
        stage
        if stage.data.dataset.folders
        else replace(
            stage,
            data=replace(
                stage.data,
                dataset=replace(
                    stage.data.dataset, dataset_folder=folders, dataset_weights=weights
                ),
            ),
        )
        for stage in recipe.data_stages
    ]
    extension = recipe.zagreus
    if not extension.validation:
        extension = replace(
            extension,
            validation=[
                ValidationFolder(str(folder), float(mixture[folder.name])) for folder in heldout
            ],
        )
    schedule = resolved(recipe.optimizer.learning_rate_scheduler, recipe.tokens.train_steps)
    return replace(
        recipe,
        general=replace(
            recipe.general, run=run, seed=recipe.general.seed if seed is None else seed
        ),
        model=replace(recipe.model, model_config=config),
        tokenizer=replace(recipe.tokenizer, tokenizer_name_or_path=str(tokenizer.folder)),
        checkpoints=replace(recipe.checkpoints, checkpoints_path=checkpoints_path),
        tokens=replace(recipe.tokens, train_steps=step),
        optimizer=replace(recipe.optimizer, learning_rate_scheduler=schedule),
        data_stages=stages,
        zagreus=extension,
    )


def count_windows(recipe: Recipe, steps: int) -> None:
    """Raise `InputError` where the recipe's folders hold too few tokens for `steps` steps."""
    need_windows(recipe, [open_folders(recipe, stage) for stage in recipe.data_stages], steps)
