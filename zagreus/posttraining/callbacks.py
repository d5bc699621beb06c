"""Callbacks of transformers' trainer, for every post-training stage.

One keeps what a run reports, one saves and ends when a signal asks for it.

The last checkpoint does not have the report: with packed rows the estimated number of steps may not
be reached, and then nothing is saved at the end but the weights.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from transformers import TrainerCallback

from zagreus.atomic import atomic_file
from zagreus.posttraining.stop import STOP, leave

REPORT = "run.json"
# Seconds that a logged step is waited for after a signal: a mean over several steps that is cut in
# two is another line of the log. Slurm kills a job that it takes back after 30 (KillWait), and the
# checkpoint must be written by then.
PATIENCE = 15


class ReportCallback(TrainerCallback):
    """Writes REPORT into the output folder at the end of training.

    `tokens` are those that this process trained on since it started,
    padding left out, in `seconds`."""

    def __init__(self) -> None:
        self.tokens, self.started = 0, time.monotonic()

    def count(self, inputs: Any) -> None:
        """Count a batch's tokens, of each of its texts (a preference has several).

        Packed rows have no mask.
        """
        for key, ids in inputs.items():
            if key.endswith("input_ids"):
                mask = inputs.get(key.removesuffix("input_ids") + "attention_mask")
                self.tokens += ids.numel() if mask is None else int((mask != 0).sum())

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Start the clock."""
        self.started = time.monotonic()

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Write it, from the first process alone."""
        if state.is_world_process_zero:
            report = {
                "steps": state.global_step,
                "epochs": state.epoch,
                "processes": args.world_size,
                "log_history": state.log_history,
            }
            report |= {"tokens": self.tokens, "seconds": round(time.monotonic() - self.started, 3)}
            with atomic_file(Path(args.output_dir) / REPORT, settled=True) as partial:
                partial.write_text(json.dumps(report), encoding="utf-8")


class StopCallback(TrainerCallback):
    """Saves a checkpoint after a signal, and ends the processes once it is whole."""

    def __init__(self) -> None:
        self.stopping = False

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Take the signals.

        Axolotl took SIGINT meanwhile, to save weights alone and call it a success.
        """
        STOP.training = True
        STOP.listen()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Ask for a checkpoint.

        At the last step of an epoch `on_epoch_end` does, as what is evaluated there comes before
        it.
        """
        if self._stop_requested(args, state) and state.epoch % 1:
            control.should_save = self.stopping = True

    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Ask for a checkpoint, unless nothing is left to do."""
        if self._stop_requested(args, state) and not control.should_training_stop:
            control.should_save = self.stopping = True

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """End, now that the checkpoint is whole. Nobody ends before the first process.

        The others would take it with them.
        """
        if not self.stopping:
            return
        if args.world_size > 1:
            torch.distributed.barrier()
        leave(f"saved at step {state.global_step}")

    def _stop_requested(self, args: Any, state: Any) -> bool:
        """Return whether a signal came to any of the processes, and this is a step to end at."""
        waited = STOP.waited()
        stop_here = waited is not None and (
            state.global_step % state.logging_steps == 0 or waited > PATIENCE
        )
        if args.world_size == 1:
            return stop_here
        stop_count = torch.tensor(float(stop_here), device=args.device)
        torch.distributed.all_reduce(stop_count)
        return bool(stop_count)
