"""Axolotl plugin that keeps what a run reports of itself: the whole log, and how many processes took part.

The last checkpoint does not have it: with packed rows the estimated number of steps may not be reached, and then nothing is saved at
the end but the weights.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from axolotl.integrations.base import BasePlugin
from transformers import TrainerCallback

from zagreus.atomic import atomic_file

REPORT = "run.json"


class ReportPlugin(BasePlugin):
    """Adds the callback below to the trainer; Axolotl finds it by its dotted name in `plugins`."""

    def add_callbacks_post_trainer(self, cfg: Any, trainer: Any) -> list[TrainerCallback]:
        """Return the callbacks to add once the trainer exists."""
        return [ReportCallback()]


class ReportCallback(TrainerCallback):
    """Writes REPORT into the output folder at the end of training."""

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Write it, from the first process alone."""
        if state.is_world_process_zero:
            report = {"steps": state.global_step, "epochs": state.epoch, "processes": args.world_size, "log_history": state.log_history}
            with atomic_file(Path(args.output_dir) / REPORT) as partial:
                partial.write_text(json.dumps(report), encoding="utf-8")
