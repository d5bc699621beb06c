"""The training loop of one segment, on one rank of possibly many."""

from __future__ import annotations

import ctypes
import json
import math
import os
import shutil
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist

from zagreus.atomic import atomic_file
from zagreus.cost import flops_per_token
from zagreus.errors import InputError
from zagreus.model.llama import Llama, initialize
from zagreus.model.origin import origin_weights
from zagreus.recipe import ignored, resolved
from zagreus.training import checkpoint
from zagreus.training.batches import Batches, MicroBatch
from zagreus.training.checkpoint import State
from zagreus.training.display import Display
from zagreus.training.loss import linear_cross_entropy
from zagreus.training.optimizer import FlatAdamW
from zagreus.training.prefetch import Prefetch, StepData
from zagreus.training.reduction import GradientSum
from zagreus.training.schedule import recipe_rate
from zagreus.training.segment import Segment
from zagreus.training.validation import Validation
from zagreus.training.watch import Watch
from zagreus.training.writer import CheckpointWriter

# Dense bf16 peak in FLOP/s by part of the device's name, for the share of it that is used (NVIDIA's data sheets).
_PEAK = {"A100": 312e12, "H100": 989e12, "H200": 989e12}

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h


class Interrupted(Exception):
    """A signal asked the run to stop; everything up to the last finished step is saved."""


@dataclass
class Ranks:
    """This process among those that train together."""

    rank: int
    count: int
    device: torch.device


def run_segment(segment: Segment, ranks: Ranks, log_path: Path) -> State:
    """Train up to the segment's last step, from the newest save, and write the segment's log; return the last checkpoint's state.

    Raises:
        InputError: a checkpoint of another recipe, a folder that ends, a loss that is not finite.
        Interrupted: SIGTERM, SIGINT or SIGUSR2 came; a checkpoint was saved.
    """
    stop = _Stop()
    trainer = _Trainer(segment, ranks)
    trainer.resume()
    if ranks.rank == 0:
        for line in trainer.describe():
            print(line, file=sys.stderr)
    interval, folder = segment.recipe.checkpoints.checkpoint_interval, segment.folder
    display = None
    if ranks.rank == 0:
        display = Display(trainer.log, trainer.step, segment.step, log_path.parent / "tensorboard" / log_path.stem)
    while trainer.step < segment.step:
        record, stopping = trainer.train_step(stop.asked)
        if display:
            display.show(record)
        if trainer.step == segment.step or trainer.step % interval == 0 or stopping:
            trainer.save()
        if stopping and trainer.step < segment.step:
            trainer.written()
            raise Interrupted(f"stopped by a signal at step {trainer.step}; the same command goes on from there")
    if display:
        display.close()
    state = trainer.written()
    if ranks.rank == 0:
        with atomic_file(log_path) as partial:
            partial.write_text("".join(trainer.log), encoding="utf-8")
        checkpoint.prune(folder, segment.previous, segment.step, keep=0)
    return state


class _Trainer:
    """Model, optimizer, data and log at one step."""

    def __init__(self, segment: Segment, ranks: Ranks) -> None:
        recipe = segment.recipe
        self.segment, self.recipe, self.ranks = segment, recipe, ranks
        self.micro_batches = recipe.global_batch_size // recipe.tokens.micro_batch_size
        self.schedule = resolved(recipe.optimizer.learning_rate_scheduler, recipe.tokens.train_steps)
        model = Llama(recipe.model.model_config, recipe.model.padded_vocab_size)
        initialize(model, recipe.model.init_method, recipe.general.seed)
        self.model = model.to(ranks.device, getattr(torch, recipe.model.dtype))
        self.optimizer = FlatAdamW(self.model, recipe.optimizer)
        if recipe.zagreus.compile:
            _compile(self.model, ranks.device.type)
        if segment.origin is not None:
            self.optimizer.start(origin_weights(segment.origin, recipe.model.model_config, recipe.model.padded_vocab_size))
        self.validation = Validation(recipe, ranks.rank, ranks.count) if recipe.validation_interval else None
        bucket_bytes = recipe.model.ddp_bucket_cap_mb * 2**20
        self.sum = GradientSum(self.model, self.optimizer, bucket_bytes) if ranks.count > 1 else None
        self.watch = Watch(ranks.rank, ranks.count, ranks.device, segment.folder.parent / "flight-recorder")
        self.writer = CheckpointWriter()
        self.log: list[str] = []
        self.step = 0
        self.state = State(0, "", segment.data, [], 0, {})

    def resume(self) -> None:
        """Go to the newest save of the segment, or else to its first step."""
        segment, folder = self.segment, self.segment.folder
        found = segment.previous or None
        newest: list[int | None] = [None]
        if self.ranks.rank == 0:
            recipes = {step: segment.recipe_fingerprint(step) for step in checkpoint.saved_steps(folder)}
            newest = [checkpoint.newest(folder, segment.previous, segment.step, recipes, segment.data)]
        if self.ranks.count > 1:
            dist.broadcast_object_list(newest, src=0)
        found = newest[0] or found
        if found:
            self.state = checkpoint.read_state(folder / str(found))
            if self.state.recipe != segment.recipe_fingerprint(found) or self.state.data not in (None, segment.data):
                raise InputError(f"{folder / str(found)}: a checkpoint of another recipe or of other data")
            weights, moments, log = checkpoint.load(folder / str(found))
            self.optimizer.load(weights, moments, found)
            self.log = log if found > segment.previous else []
            self.step = found
        self.batches = Batches(self.recipe, self.step, self.state.drawn or None, self.ranks.rank, self.ranks.count)
        self.data = Prefetch(self.batches, segment.step)
        if not self.log:
            self.log = [json.dumps({"event": "start", **self.plan()}) + "\n"]

    def plan(self) -> dict[str, Any]:
        """Return the plan of the run, for the log's first line."""
        recipe = self.recipe
        return {
            "parameters": self.optimizer.weights.numel(),
            "first_step": self.segment.previous + 1,
            "last_step": self.segment.step,
            "tokens_per_step": recipe.tokens_per_step,
            "micro_batch_size": recipe.tokens.micro_batch_size,
            "accumulation": self.micro_batches // self.ranks.count,
            "ranks": self.ranks.count,
            "device": self.ranks.device.type,
            "dtype": recipe.model.dtype,
            "flops_per_token": flops_per_token(recipe.model.model_config, recipe.model.padded_vocab_size, recipe.tokens.sequence_length),
            "stages": [
                {
                    "name": stage.name,
                    "first_step": stage.start_training_step,
                    "weights": recipe.zagreus.absent_weights if stage.data.dataset.dataset_weights is None else "given",
                    "mixture": dict(zip(stage.data.dataset.folders, weights, strict=True)),
                }
                for stage, weights in zip(recipe.data_stages, self.batches.weights, strict=True)
            ],
            "end_of_data": recipe.zagreus.end_of_data,
            "from": None if self.segment.origin is None else str(self.segment.origin),
        }

    def describe(self) -> list[str]:
        """Return the plan for people, and what of the recipe has no effect."""
        plan, schedule, tokens = self.plan(), self.schedule, self.recipe.tokens
        batch = (
            f"{plan['micro_batch_size']} sequences x {plan['accumulation']} accumulated x {plan['ranks']} ranks x {tokens.sequence_length}"
        )
        decay = f"{schedule.lr_decay_style} decay to {schedule.min_decay_lr:g} from step {schedule.lr_decay_starting_step}"
        starts = {stage.name: stage.start_training_step for stage in self.recipe.data_stages}
        own = [(item.stage, resolved(item.learning_rate_scheduler, tokens.train_steps)) for item in self.recipe.zagreus.stage_schedules]
        return [
            f"model: {plan['parameters']:,} parameters, {plan['dtype']} on {plan['device']}",
            f"batch: {plan['tokens_per_step']:,} tokens = {batch}",
            f"learning rate: {schedule.learning_rate:g}, {schedule.lr_warmup_style} warmup over {schedule.lr_warmup_steps} steps",
            f"learning rate: {decay} over {schedule.lr_decay_steps}",
            *(
                f"learning rate of stage {name} from step {starts[name]}: {item.learning_rate:g}, {item.lr_warmup_style} warmup over "
                f"{item.lr_warmup_steps} steps, {item.lr_decay_style} decay to {item.min_decay_lr:g} over {item.lr_decay_steps}"
                for name, item in own
            ),
            *(
                f"data from step {stage['first_step']}: {share:.4f} ({stage['weights']}) {folder}"
                for stage in plan["stages"]
                for folder, share in stage["mixture"].items()
            ),
            *self._validations(),
            f"steps: {self.step + 1} to {self.segment.step}, {(self.segment.step - self.step) * plan['tokens_per_step']:,} tokens",
            *(f"no effect: {line}" for line in ignored(self.recipe)),
        ]

    def _validations(self) -> list[str]:
        """Return what is looked at of the held-apart text, one line."""
        if not self.validation:
            return []
        limit = self.recipe.tokens.limit_val_batches
        size = f"the first {limit * self.recipe.tokens.micro_batch_size} windows" if limit > 0 else "all windows"
        return [f"held-apart loss: every {self.recipe.validation_interval} steps, {size} of each of {len(self.validation.folders)} folders"]

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
            if self.sum and index == len(data.micro_batches) - 1:
                self.sum.arm()
            total[0] += self._backward(batch)
        self.watch.computed()
        if self.sum:
            summing = {"sum_wait_seconds": round(self.sum.wait(), 6), "sums_in_backward": self.sum.in_backward}
            dist.all_reduce(total)
        rate = recipe_rate(self.recipe, self.step + 1)
        norm = self.optimizer.step(rate)
        loss, stopping = float(total[0]), bool(total[1] > 0)
        self.step += 1
        self._check(loss, norm, data)
        self.state = State(self.step, "", self.segment.data, data.drawn, self.step * self.recipe.tokens_per_step, {})
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
            record |= self.validation.look(self.model, self.ranks.device)
        self.log.append(json.dumps(record) + "\n")
        return record, stopping

    def _check(self, loss: float, norm: float, data: StepData) -> None:
        """Raise `InputError` where the training has gone wrong, with what is needed to look into it."""
        limit = self.recipe.zagreus.loss_limit or 3 * math.log(self.recipe.model.padded_vocab_size)
        if not loss <= limit or not math.isfinite(norm):
            self.written()
            good = [saved for saved in checkpoint.saved_steps(self.segment.folder) if saved < self.step]
            raise InputError(
                f"the loss is {loss:g} (limit {limit:g}) and the gradients' norm {norm:g} at step {self.step}; last good checkpoint: "
                f"{self.segment.folder / str(good[-1]) if good else 'none'}; the batch: {data.origin}"
            )

    def save(self) -> None:
        """Begin to save from rank 0, and to drop rolling saves that are no longer needed."""
        if self.ranks.rank == 0:
            self.state.recipe = self.segment.recipe_fingerprint(self.step)
            self.writer.save(
                self.segment.folder / str(self.step),
                self.state,
                self.optimizer.named(self.optimizer.weights),
                self.optimizer.state(),
                self.log,
                (self.segment.previous, self.segment.step, self.recipe.zagreus.rolling_saves),
            )

    def written(self) -> State:
        """Wait until the last checkpoint is written; return its state. No rank ends before: torchrun would end rank 0 with it."""
        state = self.writer.wait() or self.state
        if self.ranks.count > 1:
            dist.barrier()
        return state

    def _backward(self, batch: MicroBatch) -> torch.Tensor:
        """Add a micro batch's gradients; return its share of the step's loss: the mean over its trained labels / micro batches."""
        device = self.ranks.device
        inputs, labels, mask = (tensor.to(device, non_blocking=True) for tensor in (batch.input_ids, batch.labels, batch.mask))
        weights = (mask / (mask.sum() * self.micro_batches)).flatten()
        hidden = self.model(inputs).flatten(0, 1)
        loss = linear_cross_entropy(hidden, self.model.head, labels.flatten(), weights)
        loss.backward()
        return loss.detach()

    def _utilization(self, speed: float) -> float | None:
        """Return the share of the devices' peak that is used, by nanotron's count of operations; None where the peak is not known."""
        if self.ranks.device.type != "cuda":
            return None
        peak = device_peak()
        return None if peak is None else round(speed * self.plan()["flops_per_token"] / (peak * self.ranks.count), 4)


def device_peak() -> float | None:
    """Return the dense bf16 peak of the CUDA device in FLOP/s, where it is known."""
    name = torch.cuda.get_device_name()
    return next((peak for part, peak in _PEAK.items() if part in name), None)


def _compile(model: Llama, device: str) -> None:
    """Have torch make one kernel of what lies between the matrix products of a layer, at its first use; raise `InputError` where the
    machine or image has no compiler for that."""
    compiler = os.environ.get("CXX", "g++") if device == "cpu" else os.environ.get("CC", "gcc")
    if not shutil.which(compiler):
        raise InputError(f"zagreus.compile: true: no compiler '{compiler}' on this machine or in this image; false trains without one")
    for layer in model.decoder:
        layer.compile()


class _Stop:
    """Remembers that a signal asked to stop: the step in hand is finished and saved first."""

    def __init__(self) -> None:
        self.asked = False
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2):
            signal.signal(number, self._remember)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.asked = True


def join_ranks(device: str) -> Ranks:
    """Take this process's place: the one that torchrun gave it, or alone."""
    count, rank, local = (int(os.environ.get(key, default)) for key, default in (("WORLD_SIZE", "1"), ("RANK", "0"), ("LOCAL_RANK", "0")))
    # Whatever OMP_NUM_THREADS says: Snakemake sets it to the job's cores, which the ranks share. A job without a container, where it comes
    # through, trained at a third of the speed, and to other bits.
    torch.set_num_threads(1)
    if device == "cpu":
        # Blocks of logits come and go many times a step. glibc would hand each back to the kernel and fault its pages in anew: measured,
        # a sixth of the time of the demo's model.
        allocator = ctypes.CDLL(None)
        allocator.mallopt(_M_MMAP_THRESHOLD, 2**30)
        allocator.mallopt(_M_TRIM_THRESHOLD, 2**30)
    if device == "cuda":
        if not torch.cuda.is_available():
            raise InputError("--device cuda: this machine or image has no CUDA device")
        torch.cuda.set_device(local)
    if count > 1:
        dist.init_process_group("nccl" if device == "cuda" else "gloo")
    return Ranks(rank, count, torch.device(device, local) if device == "cuda" else torch.device("cpu"))
