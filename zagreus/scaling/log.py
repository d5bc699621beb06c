"""The held-out loss in a training log. Standard library only."""

from __future__ import annotations

import json
from pathlib import Path

from zagreus.errors import InputError


def heldout_loss(log: Path, step: int) -> float:
    """Return the held-out loss of a training after a step, in nats a token.

    Raises:
        InputError: the log has no held-out loss there.
    """
    losses = {
        line["step"]: line["heldout_loss"]
        for line in map(json.loads, log.read_text(encoding="utf-8").splitlines())
        if "heldout_loss" in line
    }
    if step not in losses:
        raise InputError(
            f"{log}: no heldout_loss at step {step}; expected one after the last step "
            "(tokens.val_check_interval of the recipe)"
        )
    return float(losses[step])
