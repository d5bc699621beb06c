"""The learning rate as a pure function of the step."""

from __future__ import annotations

import math

from zagreus.recipe.read import resolved
from zagreus.recipe.schema import Recipe, Scheduler


def recipe_rate(recipe: Recipe, step: int) -> float:
    """Return the learning rate of a step (from 1).

    Of the recipe's schedule, or of its data stage's own, which counts from its first step.
    """
    stage = recipe.data_stages[recipe.stage_at(step)]
    for own in recipe.zagreus.stage_schedules:
        if own.stage == stage.name:
            return learning_rate(
                step - stage.start_training_step + 1,
                resolved(own.learning_rate_scheduler, recipe.tokens.train_steps),
            )
    return learning_rate(
        step, resolved(recipe.optimizer.learning_rate_scheduler, recipe.tokens.train_steps)
    )


def learning_rate(step: int, schedule: Scheduler) -> float:
    """Return the learning rate of a step (from 1), digit for digit as nanotron computes it.

    The first step of a linear warmup has 0,
    even of a warmup of no steps.

    Args:
        schedule: the recipe's, through `zagreus.recipe.read.resolved`.

    Source: nanotron `helpers.py::lr_scheduler_builder`; its multiplier of the initial rate is kept,
    for the sake of the last digit.
    """
    peak, warmup = schedule.learning_rate, schedule.lr_warmup_steps
    start, decay, lowest = (
        schedule.lr_decay_starting_step,
        schedule.lr_decay_steps,
        schedule.min_decay_lr,
    )
    assert start is not None and decay is not None and lowest is not None
    done = step - 1
    if done <= warmup:
        rate = peak * done / max(warmup, 1) if schedule.lr_warmup_style == "linear" else peak
    elif done < start:
        rate = peak
    elif done < start + decay:
        part = done - start
        if schedule.lr_decay_style == "cosine":
            rate = lowest + (peak - lowest) * (1 + math.cos(math.pi * part / decay)) / 2
        elif schedule.lr_decay_style == "linear":
            rate = lowest + (peak - lowest) * (decay - part) / decay
        else:
            rate = lowest + (peak - lowest) * (1 - math.sqrt(part / decay))
    else:
        rate = lowest
    return peak * (rate / peak) if peak else 0.0
