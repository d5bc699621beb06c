"""What a run says of itself before it trains: for the log's first line, and for people."""

from __future__ import annotations

from typing import Any

from zagreus.recipe.cost import flops_per_token
from zagreus.recipe.read import ignored, resolved
from zagreus.recipe.schema import Recipe
from zagreus.training.compilation import Compilation
from zagreus.training.segment import Segment


def circumstances(recipe: Recipe, ranks: int, device: str, compiled: Compilation) -> dict[str, Any]:
    """Return how the run trains, of which its results depend in their last bits at most."""
    return {
        "ranks": ranks,
        "device": device,
        "compile": compiled.on,
        "zero_stage": recipe.optimizer.zero_stage if ranks > 1 else 0,
        "recompute_layer": recipe.parallelism.recompute_layer,
    }


def run_plan(
    segment: Segment, how: dict[str, Any], parameters: int, stage_weights: list[list[float]]
) -> dict[str, Any]:
    """Return the plan of the run, for the log's first line.

    Args:
        how: the circumstances.
        parameters: of the model.
        stage_weights: the shares of a data stage's folders, for each stage.
    """
    recipe = segment.recipe
    micro_batches = recipe.global_batch_size // recipe.tokens.micro_batch_size
    return {
        "parameters": parameters,
        "first_step": segment.previous + 1,
        "last_step": segment.step,
        "tokens_per_step": recipe.tokens_per_step,
        "micro_batch_size": recipe.tokens.micro_batch_size,
        "accumulation": micro_batches // how["ranks"],
        **how,
        "dtype": recipe.model.dtype,
        "flops_per_token": flops_per_token(
            recipe.model.model_config, recipe.model.padded_vocab_size, recipe.tokens.sequence_length
        ),
        "stages": [
            {
                "name": stage.name,
                "first_step": stage.start_training_step,
                "weights": recipe.zagreus.absent_weights
                if stage.data.dataset.dataset_weights is None
                else "given",
                "mixture": dict(zip(stage.data.dataset.folders, weights, strict=True)),
            }
            for stage, weights in zip(recipe.data_stages, stage_weights, strict=True)
        ],
        "end_of_data": recipe.zagreus.end_of_data,
        **({"attention": recipe.zagreus.attention} if recipe.zagreus.attention else {}),
        "from": None if segment.origin is None else str(segment.origin),
    }


def describe(
    plan: dict[str, Any],
    segment: Segment,
    step: int,
    compiled: Compilation,
    validation_folders: int,
) -> list[str]:
    """Return the plan for people, and what of the recipe has no effect.

    Args:
        step: the last step that is done.
        validation_folders: folders of held-out tokens that are looked at; 0 where there are none.
    """
    recipe = segment.recipe
    schedule, tokens = (
        resolved(recipe.optimizer.learning_rate_scheduler, recipe.tokens.train_steps),
        recipe.tokens,
    )
    batch = (
        f"{plan['micro_batch_size']} sequences x {plan['accumulation']} accumulated x "
        f"{plan['ranks']} ranks x {tokens.sequence_length}"
    )
    decay = (
        f"{schedule.lr_decay_style} decay to {schedule.min_decay_lr:g} from step "
        f"{schedule.lr_decay_starting_step}"
    )
    starts = {stage.name: stage.start_training_step for stage in recipe.data_stages}
    own = [
        (item.stage, resolved(item.learning_rate_scheduler, tokens.train_steps))
        for item in recipe.zagreus.stage_schedules
    ]
    return [
        f"model: {plan['parameters']:,} parameters, {plan['dtype']} on {plan['device']}",
        *_how(plan, compiled),
        f"batch: {plan['tokens_per_step']:,} tokens = {batch}",
        f"learning rate: {schedule.learning_rate:g}, {schedule.lr_warmup_style} warmup over "
        f"{schedule.lr_warmup_steps} steps",
        f"learning rate: {decay} over {schedule.lr_decay_steps}",
        *(
            f"learning rate of stage {name} from step {starts[name]}: {item.learning_rate:g}, "
            f"{item.lr_warmup_style} warmup over {item.lr_warmup_steps} steps, "
            f"{item.lr_decay_style} decay to {item.min_decay_lr:g} over {item.lr_decay_steps}"
            for name, item in own
        ),
        *(
            f"data from step {stage['first_step']}: {share:.4f} ({stage['weights']}) {folder}"
            for stage in plan["stages"]
            for folder, share in stage["mixture"].items()
        ),
        *_attention(recipe),
        *_validations(recipe, validation_folders),
        f"steps: {step + 1} to {segment.step}, {(segment.step - step) * plan['tokens_per_step']:,} "
        "tokens",
        *(f"no effect: {line}" for line in ignored(recipe)),
    ]


def _how(plan: dict[str, Any], compiled: Compilation) -> list[str]:
    """Return the circumstances that are not the usual ones, a line each."""
    lines = []
    if compiled.on or plan["device"] == "cuda":
        lines.append(f"compile: {'on' if compiled.on else 'off'} ({compiled.reason})")
    if plan["zero_stage"]:
        lines.append(f"optimizer: ZeRO-1, its state is spread over {plan['ranks']} ranks")
    if plan["recompute_layer"]:
        lines.append("memory: activations of a layer are computed again in the backward pass")
    return lines


def _attention(recipe: Recipe) -> list[str]:
    """Return how far a token sees, where that is not all of its window, one line."""
    if recipe.zagreus.attention is None:
        return []
    shape = recipe.model.model_config
    return [
        f"attention: within a document, from a token {shape.bos_token_id} or to a token "
        f"{shape.eos_token_id}"
    ]


def _validations(recipe: Recipe, folders: int) -> list[str]:
    """Return what is looked at of the held-out text, one line."""
    if not folders:
        return []
    limit = recipe.tokens.limit_val_batches
    size = (
        f"the first {limit * recipe.tokens.micro_batch_size} windows"
        if limit > 0
        else "all windows"
    )
    return [
        f"held-out loss: every {recipe.validation_interval} steps, {size} of each of {folders} "
        "folders"
    ]
