"""The rungs of a ladder: small trainings like a model's own, for predicting its held-out loss.

A rung has the recipe, the mixture and the seed of the model. Its shape and its tokens are smaller.
Standard library and recipes only: the host plans rungs before anything runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from zagreus.recipe.read import check, parsed_recipe, resolved
from zagreus.recipe.schema import DataStage, Recipe, Scheduler, StageSchedule

# Keys of a size that are not keys of the model's shape.
LEARNING_RATE, INIT_STD = "learning_rate", "init_std"
Config = Mapping[str, Any]


def rung_name(size: str, tokens: int) -> str:
    """Return the name of a rung: that of its folder beneath `pretrain`."""
    return f"ladder-{size}-{tokens}"


def rung_entries(config: Config) -> dict[str, dict[str, Any]]:
    """Return the entry `pretrain` of each rung by its name; none without a section `ladder`.

    Args:
        config: a checked configuration, of which `ladder` and `models` are read.

    Returns:
        Entries like those of a base model. `rung` says what differs from the model's recipe: `size`
        (the overrides), `steps` of the rung, and `of`, the steps of the model.
    """
    ladder = config.get("ladder")
    if ladder is None:
        return {}
    target = config["models"][ladder["model"]]["pretrain"]
    per_step = parsed_recipe(target["recipe"]).tokens_per_step
    entries = {}
    for size, overrides in ladder["sizes"].items():
        for tokens in ladder["tokens"]:
            steps = tokens // per_step
            rung = {"size": dict(overrides), "steps": steps, "of": target["checkpoints"][-1]}
            entries[rung_name(size, tokens)] = {
                **{key: target[key] for key in ("recipe", "mixture", "seed") if key in target},
                "checkpoints": [steps],
                "rung": rung,
            }
    return entries


def trained_entries(config: Config) -> dict[str, Mapping[str, Any]]:
    """Return the entry `pretrain` of each base model and of each rung, by name."""
    bases = {
        name: model["pretrain"] for name, model in config["models"].items() if "pretrain" in model
    }
    return bases | rung_entries(config)


def recipe_of(pretrain: Mapping[str, Any]) -> Recipe:
    """Return the recipe of an entry `pretrain`: its file's, changed for a rung.

    Raises:
        InputError: the file cannot be read, or the rung does not fit it.
    """
    recipe = parsed_recipe(pretrain["recipe"])
    return rung_recipe(recipe, pretrain["rung"]) if "rung" in pretrain else recipe


def rung_recipe(recipe: Recipe, rung: Mapping[str, Any], where: str = "ladder") -> Recipe:
    """Return the recipe of a rung.

    All steps of the schedule are scaled to the rung's: a rung ends where the model ends, at the
    same part of warmup and decay. Held-out loss is measured after the last step.

    Args:
        recipe: the model's.
        rung: `size`, `steps` and `of`, as `rung_entries` has them.
        where: the place of the size in the configuration, for messages.

    Raises:
        InputError: a shape or a number of steps that cannot be trained.
    """
    size, steps, whole = rung["size"], rung["steps"], rung["of"]
    shape = {key: value for key, value in size.items() if key not in (LEARNING_RATE, INIT_STD)}
    config = replace(recipe.model.model_config, **shape)
    std = size.get(INIT_STD, recipe.model.init_method.std)
    full = resolved(recipe.optimizer.learning_rate_scheduler, recipe.tokens.train_steps)
    faster = size.get(LEARNING_RATE, full.learning_rate) / full.learning_rate
    stages = [
        _scaled_stage(stage, steps / whole)
        for stage in recipe.data_stages
        if stage.start_training_step <= whole
    ]
    names = {stage.name for stage in stages}
    rendered = replace(
        recipe,
        model=replace(
            recipe.model,
            model_config=config,
            init_method=replace(recipe.model.init_method, std=std),
        ),
        tokens=replace(recipe.tokens, train_steps=steps, val_check_interval=steps),
        optimizer=replace(
            recipe.optimizer, learning_rate_scheduler=_scaled(full, steps / whole, faster)
        ),
        data_stages=stages,
        zagreus=replace(
            recipe.zagreus,
            stage_schedules=[
                StageSchedule(
                    item.stage, _scaled(item.learning_rate_scheduler, steps / whole, faster)
                )
                for item in recipe.zagreus.stage_schedules
                if item.stage in names
            ],
        ),
    )
    check(rendered, where)
    return rendered


def _scaled_stage(stage: DataStage, share: float) -> DataStage:
    return replace(stage, start_training_step=1 + round((stage.start_training_step - 1) * share))


def _scaled(schedule: Scheduler, share: float, faster: float) -> Scheduler:
    """Return a schedule with its steps times `share` and its learning rates times `faster`."""
    warmup, start = schedule.lr_warmup_steps, schedule.lr_decay_starting_step
    begin = warmup if start is None else start
    decay, lowest = schedule.lr_decay_steps, schedule.min_decay_lr
    end = None if decay is None else round((begin + decay) * share)
    begin, warmup = round(begin * share), max(round(warmup * share), 1) if warmup else 0
    return replace(
        schedule,
        learning_rate=schedule.learning_rate * faster,
        lr_warmup_steps=warmup,
        lr_decay_starting_step=None if start is None else begin,
        lr_decay_steps=None if end is None else max(end - begin, 1),
        min_decay_lr=None if lowest is None else lowest * faster,
    )
