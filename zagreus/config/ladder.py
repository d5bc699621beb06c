"""The section `ladder`: what its schema does not see."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

from zagreus.errors import InputError
from zagreus.recipe.cost import parameters
from zagreus.recipe.ladder import rung_entries, rung_recipe
from zagreus.recipe.memory import size_problems
from zagreus.recipe.read import parsed_recipe
from zagreus.recipe.schema import Recipe

# Loss(N, D) has five parameters. Three sizes and three budgets tell the curve of each axis from its
# limit, and leave four runs over.
LEAST = 3
# Llama-3's vocabulary, to compare sizes before the tokenizer is there.
VOCAB_SIZE = 128256


def ladder_problems(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield every problem of the section `ladder`, one line each; none without the section.

    Args:
        config: a configuration in which everything else is checked.
    """
    ladder = config.get("ladder")
    if ladder is None:
        return
    problem = _model_problem(config, ladder["model"])
    if problem:
        yield problem
        return
    for key, what in (("sizes", "sizes"), ("tokens", "budgets of tokens")):
        if len(ladder[key]) < LEAST:
            yield (
                f"ladder.{key}: found {len(ladder[key])} {what}, expected {LEAST} or more of each: "
                f"loss(N, D) has five parameters"
            )
    for name in rung_entries(config):
        if name in config["models"] or name in config["baselines"]:
            yield f"ladder: a rung has the name of the model {name!r}; expected another"
    target = config["models"][ladder["model"]]["pretrain"]
    recipe = parsed_recipe(target["recipe"])
    yield from _budget_problems(ladder, recipe, target["checkpoints"][-1])
    yield from _size_problems(config, recipe, target["checkpoints"][-1])


def _model_problem(config: Mapping[str, Any], name: str) -> str | None:
    """Return why the loss of a model cannot be predicted."""
    where, models = "ladder.model", config["models"]
    if name not in models:
        close = difflib.get_close_matches(name, list(models), n=1)
        known = f"expected one of {', '.join(sorted(models))}"
        return f"{where}: unknown model {name!r}; " + (
            f"did you mean {close[0]!r}?" if close else known
        )
    pretrain = models[name].get("pretrain")
    if pretrain is None:
        return f"{where}: {name!r} is no base model"
    if "from" in pretrain:
        return f"{where}: {name!r} starts from other weights, expected one trained from scratch"
    adopted = {
        key.partition("/")[2] for key in config.get("adopt", {}) if key.startswith("tokens/")
    }
    for source in pretrain["mixture"]:
        if source in adopted:
            return f"{where}: the tokens of {source!r} are adopted and have no held-out text"
        if not config["sources"][source]["heldout"]:
            return f"{where}: {source!r} has heldout 0, expected a share above 0 to measure loss on"
    return None


def _budget_problems(ladder: Mapping[str, Any], recipe: Recipe, whole: int) -> Iterator[str]:
    """Yield budgets without a step, that train equally long, or longer than the model."""
    per_step = recipe.tokens_per_step
    seen: dict[int, int] = {}
    for tokens in ladder["tokens"]:
        steps = tokens // per_step
        if not steps:
            yield f"ladder.tokens: found {tokens:,}, expected a step's {per_step:,} or more"
        elif steps > whole:
            yield (
                f"ladder.tokens: found {tokens:,}, expected at most the {whole * per_step:,} of "
                f"the model {ladder['model']!r}"
            )
        elif steps in seen:
            yield f"ladder.tokens: {seen[steps]:,} and {tokens:,} are the same {steps:,} steps"
        seen[steps] = tokens


def _size_problems(config: Mapping[str, Any], recipe: Recipe, whole: int) -> Iterator[str]:
    """Yield sizes that cannot be trained, are equal, or are larger than the model."""
    ladder = config["ladder"]
    vocabulary = _vocabulary(config, recipe)
    largest = parameters(recipe.model.model_config, vocabulary)
    seen: dict[int, str] = {}
    for name, size in ladder["sizes"].items():
        where = f"ladder.sizes.{name}"
        try:
            for steps in (*_budgets(ladder, recipe), whole):
                rung = rung_recipe(recipe, {"size": size, "steps": steps, "of": whole}, where)
        except InputError as error:
            yield str(error)
            continue
        yield from size_problems(config, rung, where)
        count = parameters(rung.model.model_config, vocabulary)
        if count in seen:
            yield f"{where}: {count:,} parameters, as many as {seen[count]!r}; expected other sizes"
        if count > largest:
            yield (
                f"{where}: {count:,} parameters, expected at most the {largest:,} of the model "
                f"{ladder['model']!r}, whose loss is predicted"
            )
        if count == largest and max(ladder["tokens"]) // recipe.tokens_per_step >= whole:
            yield (
                f"{where}: a rung is as large as the model {ladder['model']!r} and trains as long; "
                "expected less, as its loss is predicted"
            )
        seen[count] = name


def _budgets(ladder: Mapping[str, Any], recipe: Recipe) -> list[int]:
    """Return the steps of each budget that has one or more."""
    steps = [tokens // recipe.tokens_per_step for tokens in ladder["tokens"]]
    return [count for count in steps if count]


def _vocabulary(config: Mapping[str, Any], recipe: Recipe) -> int:
    """Return the rows of the embedding; Llama-3's where the tokenizer is not there yet."""
    if recipe.model.model_config.vocab_size > 0:
        return recipe.model.padded_vocab_size
    return int(config["tokenizer"].get("vocab_size", VOCAB_SIZE))
