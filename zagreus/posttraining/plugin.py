"""Axolotl plugin.

Adds the callbacks of every stage, and keeps the order of packed rows when a run goes on.
"""

from __future__ import annotations

from typing import Any

import torch
from axolotl.integrations.base import BasePlugin
from axolotl.utils.samplers import MultipackBatchSampler
from transformers import TrainerCallback

from zagreus.posttraining.callbacks import ReportCallback, StopCallback


class ReportPlugin(BasePlugin):
    """Adds the callbacks below to the trainer; Axolotl finds it by its dotted name in `plugins`."""

    def add_callbacks_post_trainer(self, cfg: Any, trainer: Any) -> list[TrainerCallback]:
        """Return the callbacks to add once the trainer exists."""
        callback = ReportCallback()
        step = trainer.training_step

        def counted(model: Any, inputs: Any, *rest: Any, **named: Any) -> Any:
            callback.count(inputs)
            return step(model, inputs, *rest, **named)

        trainer.training_step = counted
        return [OrderCallback(), StopCallback(), callback]


class OrderCallback(TrainerCallback):
    """Lets the order of packed rows depend on seed and epoch alone.

    Axolotl draws it from torch's state, which a run that goes on in the middle of an epoch restores
    only afterwards; and such a run takes packs that were made before it for another order.
    """

    def __init__(self) -> None:
        self.epoch: int | None = None

    def on_epoch_begin(
        self, args: Any, state: Any, control: Any, train_dataloader: Any = None, **_: Any
    ) -> None:
        """Have the epoch's packs made anew, from a generator of its own."""
        if self.epoch is None:  # as the trainer counts the epochs that it skips
            steps = max(1, -(-len(train_dataloader) // args.gradient_accumulation_steps))
            self.epoch = state.global_step // steps
        else:
            self.epoch += 1
        sampler = train_dataloader.batch_sampler
        while hasattr(sampler, "batch_sampler"):  # the share of one of several processes
            sampler = sampler.batch_sampler
        if isinstance(sampler, MultipackBatchSampler) and isinstance(
            sampler.sampler, torch.utils.data.RandomSampler
        ):
            sampler.sampler.generator = torch.Generator().manual_seed(args.seed + self.epoch)
            sampler.set_epoch(self.epoch)
