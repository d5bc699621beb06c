"""An Axolotl plugin that looks whether packed rows see one another, in the model's first step."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from axolotl.integrations.base import BasePlugin


class PackingProbe(BasePlugin):
    """Writes what it saw to the file that ZAGREUS_PROBE names."""

    def add_callbacks_post_trainer(self, cfg: Any, trainer: Any) -> list[Any]:
        """Look at the first batch that the trainer makes, as it makes it."""
        step, output = trainer.training_step, Path(os.environ["ZAGREUS_PROBE"])

        def looked(model: Any, inputs: Any, *rest: Any, **named: Any) -> Any:
            if not output.exists():
                output.write_text(json.dumps(look(model, inputs)), encoding="utf-8")
            return step(model, inputs, *rest, **named)

        trainer.training_step = looked
        return []


def look(model: Any, inputs: Any) -> dict[str, Any]:
    """Change the tokens of the first packed row; return how much the logits of each row change.

    `mixed` is the same with positions that count on through the pack, as one row: a model in which
    rows see one another, so that the measurement is known to show it.
    """
    ids, positions = inputs["input_ids"][:1], inputs["position_ids"][:1]
    starts = [index for index, position in enumerate(positions[0].tolist()) if position == 0]
    changed = ids.clone()
    changed[0, : starts[1]] = changed[0, : starts[1]].flip(0)
    seen: dict[str, Any] = {"attention": model.config._attn_implementation, "rows": len(starts)}
    seen["keys"] = sorted(inputs)
    for name, position_ids in {
        "packed": positions,
        "mixed": torch.arange(ids.shape[1])[None],
    }.items():
        further = {key: value[:1] for key, value in inputs.items() if key == "attention_mask"}
        with torch.no_grad():
            first, second = (
                model(input_ids=tokens, position_ids=position_ids, **further).logits
                for tokens in (ids, changed)
            )
        difference = (first - second).abs()[0].amax(-1)
        seen[name] = [float(difference[: starts[1]].max()), float(difference[starts[1] :].max())]
    return seen
