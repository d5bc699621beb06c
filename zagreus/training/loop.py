"""The training loop of one segment, on one rank of possibly many."""

from __future__ import annotations

import json
import math
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist

from zagreus.atomic import atomic_file
from zagreus.errors import InputError
from zagreus.launch.variables import FLIGHT_RECORDER
from zagreus.model.documents import Marks
from zagreus.model.llama import Llama, initialize
from zagreus.model.origin import origin_weights
from zagreus.recipe.cost import flops_per_token
from zagreus.training import checkpoint
from zagreus.training.agreement import check_agreement
from zagreus.training.batches import Batches, MicroBatch
from zagreus.training.checkpoint import State
from zagreus.training.compilation import compilation, compile_layers, compiled_loss
from zagreus.training.description import circumstances, describe, run_plan
from zagreus.training.display import Display
from zagreus.training.distributed import Ranks, join_ranks
from zagreus.training.loss import linear_cross_entropy
from zagreus.training.muon import make_optimizer
from zagreus.training.prefetch import Prefetch, StepData
from zagreus.training.reduction import GradientSum
from zagreus.training.resume import Saved, find_save, shared_reader
from zagreus.training.schedule import recipe_rate
from zagreus.training.segment import Segment
from zagreus.training.sharding import Sharding
from zagreus.training.validation import Validation
from zagreus.training.watch import Watch
from zagreus.training.writer import CheckpointWriter

__all__ = ["Interrupted", "Ranks", "device_peak", "join_ranks", "run_segment"]

# Dense bf16 peak in FLOP/s by part of the device's name, for the share of it that is used (NVIDIA's
# data sheets).
_PEAK = {"A100": 312e12, "H100": 989e12, "H200": 989e12}


class Interrupted(Exception):
    """A signal asked the run to stop; everything up to the last finished step is saved."""


def run_segment(segment: Segment, ranks: Ranks, log_path: Path) -> tuple[State, dict[str, Any]]:
    """Train up to the segment's last step, from the newest save, and write the segment's log.

    Return the last checkpoint's state,
    and how it was trained.

    Raises:
        InputError: a checkpoint of another recipe, a folder that ends, a loss that is not finite.
        Interrupted: SIGTERM, SIGINT or SIGUSR2 came; a checkpoint was saved.
    """
    stop = _Stop()
    trainer = _Trainer(segment, ranks)
    trainer.resume()
    if ranks.rank == 0:
        folders = len(trainer.validation.folders) if trainer.validation else 0
        for line in describe(trainer.plan(), segment, trainer.step, trainer.compilation, folders):
            print(line, file=sys.stderr)
    interval, folder = segment.recipe.checkpoints.checkpoint_interval, segment.folder
    display = None
    if ranks.rank == 0:
        display = Display(
            trainer.log, trainer.step, segment.step, log_path.parent / "tensorboard" / log_path.stem
        )
    while trainer.step < segment.step:
        record, stopping = trainer.train_step(stop.requested)
        if display:
            display.show(record)
        if trainer.step == segment.step or trainer.step % interval == 0 or stopping:
            trainer.save()
        if stopping and trainer.step < segment.step:
            trainer.written()
            raise Interrupted(
                f"stopped by a signal at step {trainer.step}; the same command goes on from there"
            )
    if display:
        display.close()
    state = trainer.written()
    if ranks.rank == 0:
        with atomic_file(log_path) as partial:
            partial.write_text("".join(trainer.log), encoding="utf-8")
        checkpoint.prune(folder, segment.previous, segment.step, keep=0)
    return state, trainer.circumstances()


class _Trainer:
    """Model, optimizer, data and log at one step."""

    def __init__(self, segment: Segment, ranks: Ranks) -> None:
        recipe = segment.recipe
        self.segment, self.recipe, self.ranks = segment, recipe, ranks
        self.micro_batches = recipe.global_batch_size // recipe.tokens.micro_batch_size
        self.compilation = compilation(recipe.zagreus.compile, ranks.device.type)
        on_cpu = ranks.device.type == "cpu"
        model = Llama(
            recipe.model.model_config,
            recipe.model.padded_vocab_size,
            "cpu" if on_cpu and not self.compilation.on else "torch",
        )
        initialize(model, recipe.model.init_method, recipe.general.seed)
        model.recompute_layer = recipe.parallelism.recompute_layer
        if recipe.zagreus.attention == "document":
            shape = recipe.model.model_config
            model.document_marks = Marks(shape.bos_token_id, shape.eos_token_id)
            model.document_blocks = self.compilation.on and not on_cpu
        self.model = model.to(ranks.device, getattr(torch, recipe.model.dtype))
        bucket_bytes = recipe.model.ddp_bucket_cap_mb * 2**20
        zero = recipe.optimizer.zero_stage == 1 and ranks.count > 1
        sharding = Sharding(ranks.rank, ranks.count, not on_cpu, bucket_bytes) if zero else None
        self.optimizer = make_optimizer(self.model, recipe.optimizer, sharding)
        if self.compilation.on:
            compile_layers(self.model)
        self.gradient_of = compiled_loss() if self.compilation.on and not on_cpu else None
        if segment.origin is not None:
            self.optimizer.start(
                origin_weights(
                    segment.origin, recipe.model.model_config, recipe.model.padded_vocab_size
                )
            )
        self.validation = (
            Validation(recipe, ranks.rank, ranks.count) if recipe.validation_interval else None
        )
        self.gradient_sum = (
            GradientSum(self.model, self.optimizer, bucket_bytes) if ranks.count > 1 else None
        )
        self.watch = Watch(
            ranks.rank, ranks.count, ranks.device, segment.folder.parent / FLIGHT_RECORDER
        )
        self.flops_per_token = flops_per_token(
            recipe.model.model_config, recipe.model.padded_vocab_size, recipe.tokens.sequence_length
        )
        self.peak = None if on_cpu else device_peak()
        self.writer = CheckpointWriter()
        self.log: list[str] = []
        self.step = 0
        self.state = State(0, "", segment.data, [], 0, {})

    def resume(self) -> None:
        """Go to the newest save of the segment, or else to its first step.

        Rank 0 reads, and the others take from it.
        """
        saved: Saved = find_save(self.segment, self.ranks)
        if saved.step:
            self.state = saved.state
            self.optimizer.load(shared_reader(saved, self.ranks), saved.step)
            self.log = saved.log if saved.step > self.segment.previous else []
            self.step = saved.step
        self.batches = Batches(
            self.recipe, self.step, self.state.drawn or None, self.ranks.rank, self.ranks.count
        )
        self.data = Prefetch(self.batches, self.segment.step)
        if not self.log:
            self.log = [json.dumps({"event": "start", **self.plan()}) + "\n"]

    def circumstances(self) -> dict[str, Any]:
        """Return how the run trains."""
        return circumstances(
            self.recipe, self.ranks.count, self.ranks.device.type, self.compilation
        )

    def plan(self) -> dict[str, Any]:
        """Return the plan of the run, for the log's first line."""
        return run_plan(
            self.segment, self.circumstances(), self.optimizer.weights.numel(), self.batches.weights
        )

    def train_step(self, stop: bool) -> tuple[dict[str, Any], bool]:
        """Make one optimizer step; return its record and whether any rank was asked to stop."""
        started = time.perf_counter()
        data = self.data.next()
        waited = time.perf_counter() - started
        total = torch.zeros(2, dtype=torch.float32, device=self.ranks.device)
        total[1] = float(stop)
        summing = {}
        self.watch.begin()
        for index, batch in enumerate(data.micro_batches):
            if self.gradient_sum and index == len(data.micro_batches) - 1:
                self.gradient_sum.expect_last_backward()
            total[0] += self._backward(batch)
        self.watch.computed()
        if self.gradient_sum:
            summing = {
                "sum_wait_seconds": round(self.gradient_sum.wait(), 6),
                "sums_in_backward": self.gradient_sum.in_backward,
            }
            dist.all_reduce(total)
        rate = recipe_rate(self.recipe, self.step + 1)
        # The step's one wait for the device.
        loss, stops, norm = torch.stack((*total, self.optimizer.step(rate))).tolist()
        stopping = stops > 0
        self.step += 1
        self._check(loss, norm, data)
        self.state = State(
            self.step,
            "",
            self.segment.data,
            data.drawn,
            self.step * self.recipe.tokens_per_step,
            {},
        )
        seconds = time.perf_counter() - started
        speed = self.recipe.tokens_per_step / seconds
        record = {
            "step": self.step,
            "loss": loss,
            "grad_norm": norm,
            "learning_rate": rate,
            "tokens": self.state.tokens,
            "seconds": round(seconds, 6),
            "tokens_per_second": round(speed, 1),
            "mfu": self._utilization(speed),
            "data_wait_seconds": round(waited, 6),
            **summing,
            **self.watch.end(self.step),
        }
        if self.validation and self.step % self.recipe.validation_interval == 0:
            record |= self.validation.losses(self.model, self.ranks.device)
        self.log.append(json.dumps(record) + "\n")
        return record, stopping

    def _check(self, loss: float, norm: float, data: StepData) -> None:
        """Raise `InputError` where the training has gone wrong, with what is needed to look into
        it.
        """
        limit = self.recipe.zagreus.loss_limit or 3 * math.log(self.recipe.model.padded_vocab_size)
        if not loss <= limit or not math.isfinite(norm):
            self.written()
            good = [
                saved for saved in checkpoint.saved_steps(self.segment.folder) if saved < self.step
            ]
            raise InputError(
                f"the loss is {loss:g} (limit {limit:g}) and the gradients' norm {norm:g} at step "
                f"{self.step}; last good checkpoint: "
                f"{self.segment.folder / str(good[-1]) if good else 'none'}; the batch: "
                f"{data.origin}"
            )

    def save(self) -> None:
        """Begin to save from rank 0, and to drop rolling saves that are no longer needed.

        Raise `InputError` where ranks differ.
        """
        check_agreement(self.optimizer.weights, self.ranks, self.step)
        sharded = self.optimizer.sharding is not None
        optimizer = self.optimizer.state() if sharded or self.ranks.rank == 0 else {}
        if self.ranks.rank == 0:
            self.state.recipe = self.segment.recipe_fingerprint(self.step)
            self.writer.save(
                self.segment.folder / str(self.step),
                self.state,
                self.optimizer.named(self.optimizer.weights),
                optimizer,
                self.log,
                (self.segment.previous, self.segment.step, self.recipe.zagreus.rolling_saves),
                optimizer_is_a_copy=sharded,
            )

    def written(self) -> State:
        """Wait until the last checkpoint is written; return its state. No rank ends before.

        Torchrun would end rank 0 with it.
        """
        state = self.writer.wait() or self.state
        if self.ranks.count > 1:
            dist.barrier()
        return state

    def _backward(self, batch: MicroBatch) -> torch.Tensor:
        """Add a micro batch's gradients; return its share of the step's loss.

        The mean over its trained labels / micro batches.
        """
        device = self.ranks.device
        inputs, labels, mask = (
            tensor.to(device, non_blocking=True)
            for tensor in (batch.input_ids, batch.labels, batch.mask)
        )
        weights = (mask / (mask.sum() * self.micro_batches)).flatten()
        hidden = self.model(inputs).flatten(0, 1)
        loss = linear_cross_entropy(
            hidden, self.model.head, labels.flatten(), weights, self.gradient_of
        )
        loss.backward()
        return loss.detach()

    def _utilization(self, speed: float) -> float | None:
        """Return the share of the devices' peak that is used, by nanotron's count of operations.

        None where the peak is not known.
        """
        return (
            None
            if self.peak is None
            else round(speed * self.flops_per_token / (self.peak * self.ranks.count), 4)
        )


def device_peak() -> float | None:
    """Return the dense bf16 peak of the CUDA device in FLOP/s, where it is known."""
    name = torch.cuda.get_device_name()
    return next((peak for part, peak in _PEAK.items() if part in name), None)


class _Stop:
    """Remembers that a signal asked to stop: the step in hand is finished and saved first."""

    def __init__(self) -> None:
        self.requested = False
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2):
            signal.signal(number, self._remember)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
