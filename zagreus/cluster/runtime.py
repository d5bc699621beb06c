"""How long a training job may take."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zagreus.cost import flops_per_token
from zagreus.recipe import read_recipe

# Head-room: a machine slower than planned, and the start of a job (the image, torch, the compilation of the model).
SLOWER, START = 1.5, 30


def segment_minutes(config: Mapping[str, Any], recipe_file: Path | str, steps: int) -> int | None:
    """Return the minutes to ask for to train a number of steps, at the plan's assumed speed on the configured ranks; None where the plan
    assumes none, or the size of the vocabulary is not known yet."""
    recipe, plan, cluster = read_recipe(recipe_file), config.get("plan", {}), config["cluster"]
    if "peak_flops" not in plan or recipe.model.model_config.vocab_size < 0:
        return None
    flops = flops_per_token(recipe.model.model_config, recipe.model.padded_vocab_size, recipe.tokens.sequence_length)
    speed = plan["mfu"] * plan["peak_flops"] * cluster["nodes"] * cluster["ranks_per_node"]
    return START + math.ceil(SLOWER * steps * recipe.tokens_per_step * flops / speed / 60)
