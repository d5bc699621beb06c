"""AdamW with nanotron's meaning, over flat memory."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import groupby

import torch
import torch.distributed as dist
from torch import Tensor
from torch.optim.adamw import adamw

from zagreus.errors import InputError
from zagreus.model.llama import Llama
from zagreus.model.nanotron import nanotron_name
from zagreus.recipe.schema import Optimizer
from zagreus.training.sharding import Sharding, Unit, bucket_units, gathered, group_units


@dataclass(frozen=True)
class Range:
    """Elements of the flat memory that this rank updates, all with one weight decay.

    `start` to `end`, whose state begins at `local`.
    """

    start: int
    end: int
    local: int
    weight_decay: float

    def of_state(self, flat: Tensor) -> Tensor:
        """Return the range in a tensor of the optimizer's state."""
        return flat[self.local : self.local + self.end - self.start]


class FlatAdamW:
    """All parameters lie in one tensor, all gradients in another.

    One all-reduce, one norm, one fused update instead of one a matrix.

    Weight decay applies to everything, norms and embeddings too, save parameters that match
    `weight_decay_exclude_named_params`. With bfloat16 weights and `accumulate_grad_in_fp32`,
    gradients are summed and weights updated in fp32, and the weights are the rounded copy; without
    it everything is bfloat16 (nanotron, `optim/gradient_accumulator.py`).

    With `sharding` a rank holds moments and fp32 weights of its own slices alone (ZeRO-1). The
    order of sums, and so the result, is that of the unsharded optimizer where gradients are summed
    whole.
    """

    def __init__(
        self,
        model: Llama,
        recipe: Optimizer,
        sharding: Sharding | None = None,
        fewer_passes: bool | None = None,
    ) -> None:
        """Move the model's parameters into flat memory (on their device, in their type) and make
        the optimizer.

        Args:
            sharding: spreads the state over ranks; None: all of it is here.
            fewer_passes: clip inside the fused update and store a step's first gradients instead of
                adding them to zeros; None: on CUDA. The same but for the last bit and the sign of
                zeros.
        """
        named = dict(model.named_parameters())
        no_decay = [
            name
            for name in named
            if any(
                re.match(p, nanotron_name(name)) for p in recipe.weight_decay_exclude_named_params
            )
        ]

        def group(name: str) -> tuple[bool, bool]:
            return self.has_own_rule(name), name in no_decay

        order = sorted(named, key=group)
        first = named[order[0]]
        self.clip, self.factory, self.sharding = (
            recipe.clip_grad,
            recipe.optimizer_factory,
            sharding,
        )
        self.fewer_passes = first.is_cuda if fewer_passes is None else fewer_passes
        self.slices: dict[str, tuple[int, int, torch.Size]] = {}
        size = 0
        for name in order:
            self.slices[name] = (size, size + named[name].numel(), named[name].shape)
            size += named[name].numel()
        # Elements that AdamW updates, from the first on.
        self.adam_end = min([self.slices[name][0] for name in order if group(name)[0]] or [size])
        groups = []
        for (_, undecayed), members in groupby(order, key=group):
            names = list(members)
            bounds = self.slices[names[0]][0], self.slices[names[-1]][1]
            groups.append((*bounds, 0.0 if undecayed else recipe.weight_decay))
        self.fp32_master_weights = recipe.accumulate_grad_in_fp32 and first.dtype != torch.float32
        dtype = torch.float32 if self.fp32_master_weights else first.dtype
        self.units = self._units(size, [group[:2] for group in groups], dtype.itemsize)
        capacity = max([size, *(unit.end for unit in self.units)])
        self.padded_weights = torch.zeros(capacity, dtype=first.dtype, device=first.device)
        self.padded_gradients = torch.zeros(capacity, dtype=dtype, device=first.device)
        self.weights, self.gradients = self.padded_weights[:size], self.padded_gradients[:size]
        for name, view in self.named(self.weights).items():
            view.copy_(named[name].detach())
            named[name].data = view
        self._stored: set[str] = (
            set()
        )  # parameters whose gradients of this step lie in the flat memory
        for name, view in self.named(self.gradients).items():
            if self.fp32_master_weights:
                named[name].register_post_accumulate_grad_hook(self._adder(name, view))
            else:
                named[name].grad = view  # autograd adds to it in place
        self.owned = (
            [unit.slice_of(sharding.rank) for unit in self.units] if sharding else [(0, size)]
        )
        self.ranges = self._ranges(groups)
        # The elements whose state is here: all, or the owned slices one after the other.
        self.master = self._owned_part(Tensor.float) if self.fp32_master_weights else self.weights
        self.moments = self.zero_moments(dtype)
        # The count of steps so far, a tensor a range: the fused kernel wants it on the device.
        device = first.device if self.factory.torch_adam_is_fused else "cpu"
        self.steps = [torch.zeros((), dtype=torch.float32, device=device) for _ in self.ranges]

    def has_own_rule(self, name: str) -> bool:
        """Return whether a parameter is updated by another rule than AdamW's."""
        return False

    def zero_moments(self, dtype: torch.dtype) -> dict[str, Tensor]:
        """Return the optimizer's state of the owned elements before the first step."""
        size = sum(end - start for start, end in self.owned)
        zeros = partial(torch.zeros, size, dtype=dtype, device=self.weights.device)
        return {key: zeros() for key in ("exp_avg", "exp_avg_sq")}

    def part(self, key: str) -> tuple[int, list[str]]:
        """Return the first element, and the parameters, that a tensor of the state has."""
        return 0, list(self.slices)

    def _units(self, size: int, groups: list[tuple[int, int]], itemsize: int) -> list[Unit]:
        """Return how the flat memory is shared out among ranks; nothing where it is not."""
        if self.sharding is None:
            return []
        if not self.sharding.scatter:
            return group_units(groups, self.sharding.world_size)
        bucket = min(self.sharding.bucket_bytes // itemsize, size // 4)
        embedding_end = self.slices["token_embedding.weight"][1]
        return bucket_units(size, embedding_end, bucket, self.sharding.world_size)

    def _ranges(self, groups: list[tuple[int, int, float]]) -> list[Range]:
        """Return the owned elements, cut where the weight decay changes."""
        ranges, offset = [], 0
        for start, end in self.owned:
            for first, last, decay in groups:
                low, high = max(start, first), min(end, last)
                if low < high:
                    ranges.append(Range(low, high, offset + low - start, decay))
            offset += end - start
        return ranges

    def _owned_part(self, change: Callable[[Tensor], Tensor]) -> Tensor:
        """Return what a function makes of the owned weights, in one tensor."""
        if self.sharding is None:
            return change(self.weights)
        return change(torch.cat([self.padded_weights[start:end] for start, end in self.owned]))

    def named(self, flat: Tensor, key: str = "") -> dict[str, Tensor]:
        """Return a flat tensor as views, one a parameter; `key` names one of the state."""
        first, names = self.part(key)
        return {
            name: flat[start - first : end - first].view(shape)
            for name, (start, end, shape) in self.slices.items()
            if name in names
        }

    @torch.no_grad()
    def step(self, rate: float) -> Tensor:
        """Clip the gradients, update the weights, clear the gradients.

        Return the gradients' norm before clipping (fp32, global L2),
        a scalar on the device."""
        norm = self._norm()
        scale = None
        if self.clip is not None:
            if self.fewer_passes and self.factory.torch_adam_is_fused:
                scale = torch.clamp((norm + 1e-6) / self.clip, min=1.0)  # the update divides by it
            else:
                factor = torch.clamp(self.clip / (norm + 1e-6), max=1.0)
                for start, end in self.owned:
                    self.padded_gradients[start:end].mul_(factor)
        for decay in dict.fromkeys(item.weight_decay for item in self.ranges):
            self._update(rate, decay, scale)
        self._publish()
        if self.fewer_passes and self.fp32_master_weights:
            self._stored.clear()
        else:
            self.padded_gradients.zero_()
        return norm

    def _norm(self) -> Tensor:
        """Return the L2 norm of all gradients.

        Of the whole sums where they are here, else from the ranks' slices.
        """
        if self.sharding is None or not self.sharding.scatter:
            return torch.linalg.vector_norm(self.gradients, dtype=torch.float32)
        parts = [
            torch.linalg.vector_norm(self.padded_gradients[start:end], dtype=torch.float32)
            for start, end in self.owned
        ]
        square = torch.stack(parts).square_().sum()
        dist.all_reduce(square)
        return square.sqrt_()

    def _update(self, rate: float, decay: float, scale: Tensor | None) -> None:
        """Make AdamW's step on the ranges with a weight decay.

        Gradients are divided by `scale` on the way.
        """
        members = [
            (item, count)
            for item, count in zip(self.ranges, self.steps, strict=True)
            if item.weight_decay == decay and item.end <= self.adam_end
        ]
        if not members:
            return
        ranges = [item for item, _ in members]
        state = [
            [item.of_state(self.moments[key]) for item in ranges]
            for key in ("exp_avg", "exp_avg_sq")
        ]
        # The function beneath torch.optim.AdamW: the class would import torch's compiler first, a
        # second of every start.
        adamw(
            [self._master(item) for item in ranges],
            [self.gradients[item.start : item.end] for item in ranges],
            *state,
            [],
            [count for _, count in members],
            foreach=False,
            fused=self.factory.torch_adam_is_fused,
            grad_scale=scale,
            amsgrad=False,
            beta1=self.factory.adam_beta1,
            beta2=self.factory.adam_beta2,
            lr=rate,
            weight_decay=decay,
            eps=self.factory.adam_eps,
            maximize=False,
        )

    def _master(self, item: Range) -> Tensor:
        """Return the weights that are updated in a range."""
        return (
            item.of_state(self.master)
            if self.fp32_master_weights
            else self.weights[item.start : item.end]
        )

    def _publish(self) -> None:
        """Give all ranks the new weights, rounded where they are kept in fp32."""
        if self.fp32_master_weights:
            for item in self.ranges:
                self.weights[item.start : item.end].copy_(item.of_state(self.master))
        if self.sharding:
            for unit in self.units:
                unit.gather(self.padded_weights, self.sharding.rank)

    def state(self) -> dict[str, Tensor]:
        """Return what a resume needs besides the weights.

        Adam's moments by parameter, and the fp32 weights where they are kept apart.

        With a sharded state all ranks must call it, and the result is on the CPU of rank 0 alone,
        in memory of its own.
        """
        flats = self.moments | ({"master": self.master} if self.fp32_master_weights else {})
        tensors: dict[str, Tensor] = {}
        for key, flat in flats.items():
            whole = (
                gathered(flat, self.units, self.sharding, self.weights.numel())
                if self.sharding
                else flat
            )
            if whole is not None:
                tensors |= {
                    f"{key}.{name}": view.clone() if self.sharding else view
                    for name, view in self.named(whole, key).items()
                }
        return tensors

    @torch.no_grad()
    def start(self, weights: dict[str, Tensor]) -> None:
        """Take another model's weights as the first ones, in fp32 where they are kept apart.

        Adam's moments begin at zero.
        """
        for name, view in self.named(self.weights).items():
            if weights[name].shape != view.shape:
                raise InputError(
                    f"{name}: found the shape {tuple(weights[name].shape)} in the model to start "
                    f"from, expected {tuple(view.shape)}"
                )
            view.copy_(weights[name])
            if self.fp32_master_weights:
                self._take(self.master, name, weights[name])

    @torch.no_grad()
    def load(self, tensor_of: Callable[[str, torch.dtype, torch.Size], Tensor], steps: int) -> None:
        """Take weights and the optimizer's state after `steps` steps from a checkpoint.

        Args:
            tensor_of: returns a tensor of the checkpoint by its name (PARAMETER, master.PARAMETER,
                exp_avg.PARAMETER, ...), dtype and shape.
        """
        for name, (start, end, shape) in self.slices.items():
            self.weights[start:end].view(shape).copy_(tensor_of(name, self.weights.dtype, shape))
        flats = self.moments | ({"master": self.master} if self.fp32_master_weights else {})
        for key, flat in flats.items():
            first, names = self.part(key)
            for name in names:
                tensor = tensor_of(f"{key}.{name}", flat.dtype, self.slices[name][2])
                self._take(flat, name, tensor, first)
        for count in self.steps:
            count.fill_(steps)

    def _take(self, state: Tensor, name: str, tensor: Tensor, begin: int = 0) -> None:
        """Copy the owned elements of a parameter's tensor into a tensor of the state, which begins
        at an element.
        """
        first, last, _ = self.slices[name]
        for item in self.ranges:
            low, high = max(first, item.start), min(last, item.end)
            if low < high:
                offset = item.local + low - item.start - begin
                state[offset : offset + high - low].copy_(
                    tensor.flatten()[low - first : high - first]
                )

    def _adder(self, name: str, total: Tensor) -> Callable[[Tensor], None]:
        """Return a hook that adds a finished gradient to `total` and drops it."""

        def add(parameter: Tensor) -> None:
            assert parameter.grad is not None
            if self.fewer_passes and name not in self._stored:
                total.copy_(parameter.grad)
                self._stored.add(name)
            else:
                total.add_(parameter.grad)
            parameter.grad = None

        return add
