"""AdamW with nanotron's meaning, over flat memory."""

from __future__ import annotations

import re

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from zagreus.errors import InputError
from zagreus.model.llama import Llama
from zagreus.model.nanotron import nanotron_name
from zagreus.nanotron import Optimizer


class FlatAdamW:
    """All parameters lie in one tensor, all gradients in another: one all-reduce, one norm, one fused update instead of one a matrix.

    Weight decay applies to everything, norms and embeddings too, save parameters that match `weight_decay_exclude_named_params`.
    With bfloat16 weights and `accumulate_grad_in_fp32`, gradients are summed and weights updated in fp32, and the weights are the
    rounded copy; without it everything is bfloat16 (nanotron, `optim/gradient_accumulator.py`).
    """

    def __init__(self, model: Llama, recipe: Optimizer) -> None:
        """Move the model's parameters into flat memory (on their device, in their type) and make the optimizer."""
        named = dict(model.named_parameters())
        spared = [name for name in named if any(re.match(p, nanotron_name(name)) for p in recipe.weight_decay_exclude_named_params)]
        order = [name for name in named if name not in spared] + spared
        first = named[order[0]]
        self.clip = recipe.clip_grad
        self.slices: dict[str, tuple[int, int, torch.Size]] = {}
        size = 0
        for name in order:
            self.slices[name] = (size, size + named[name].numel(), named[name].shape)
            size += named[name].numel()
        decayed = self.slices[spared[0]][0] if spared else size
        self.weights = torch.empty(size, dtype=first.dtype, device=first.device)
        self.exact = recipe.accumulate_grad_in_fp32 and first.dtype != torch.float32
        kind = torch.float32 if self.exact else first.dtype
        self.gradients = torch.zeros(size, dtype=kind, device=first.device)
        for name, view in self.named(self.weights).items():
            view.copy_(named[name].detach())
            named[name].data = view
        self.master = self.weights.float() if self.exact else self.weights
        for name, view in self.named(self.gradients).items():
            if self.exact:
                named[name].register_post_accumulate_grad_hook(_adder(view))
            else:
                named[name].grad = view  # autograd adds to it in place
        self.moments = {key: torch.zeros_like(self.master) for key in ("exp_avg", "exp_avg_sq")}
        self.factory = recipe.optimizer_factory
        self.groups = [
            (start, end, decay) for start, end, decay in ((0, decayed, recipe.weight_decay), (decayed, size, 0.0)) if start < end
        ]
        # The count of steps so far, a tensor a group: the fused kernel wants it on the device.
        device = first.device if self.factory.torch_adam_is_fused else "cpu"
        self.steps = [torch.zeros((), dtype=torch.float32, device=device) for _ in self.groups]

    def named(self, flat: Tensor) -> dict[str, Tensor]:
        """Return a flat tensor as views, one a parameter."""
        return {name: flat[start:end].view(shape) for name, (start, end, shape) in self.slices.items()}

    @torch.no_grad()
    def step(self, rate: float) -> float:
        """Clip the gradients, update the weights, clear the gradients; return the gradients' norm before clipping (fp32, global L2)."""
        norm = torch.linalg.vector_norm(self.gradients, dtype=torch.float32)
        if self.clip is not None:
            self.gradients.mul_(torch.clamp(self.clip / (norm + 1e-6), max=1.0))
        for (start, end, decay), steps in zip(self.groups, self.steps, strict=True):
            # The function beneath torch.optim.AdamW: the class would import torch's compiler first, a second of every start.
            adamw(
                *([flat[start:end]] for flat in (self.master, self.gradients, self.moments["exp_avg"], self.moments["exp_avg_sq"])),
                [],
                [steps],
                foreach=False,
                fused=self.factory.torch_adam_is_fused,
                amsgrad=False,
                beta1=self.factory.adam_beta1,
                beta2=self.factory.adam_beta2,
                lr=rate,
                weight_decay=decay,
                eps=self.factory.adam_eps,
                maximize=False,
            )
        if self.exact:
            self.weights.copy_(self.master)
        self.gradients.zero_()
        return float(norm)

    def state(self) -> dict[str, Tensor]:
        """Return what a resume needs besides the weights: Adam's moments by parameter, and the fp32 weights where they are kept apart."""
        tensors = {f"{key}.{name}": view for key, flat in self.moments.items() for name, view in self.named(flat).items()}
        if self.exact:
            tensors |= {f"master.{name}": view for name, view in self.named(self.master).items()}
        return tensors

    @torch.no_grad()
    def start(self, weights: dict[str, Tensor]) -> None:
        """Take another model's weights as the first ones, in fp32 where they are kept apart; Adam's moments begin at zero."""
        for name, view in self.named(self.master).items():
            if weights[name].shape != view.shape:
                raise InputError(
                    f"{name}: found the shape {tuple(weights[name].shape)} in the model to start from, expected {tuple(view.shape)}"
                )
            view.copy_(weights[name])
        if self.exact:
            self.weights.copy_(self.master)

    def load(self, weights: dict[str, Tensor], state: dict[str, Tensor], steps: int) -> None:
        """Take weights and the optimizer's state after `steps` steps from a checkpoint."""
        for name, view in self.named(self.weights).items():
            view.copy_(weights[name])
        if self.exact:
            for name, view in self.named(self.master).items():
                view.copy_(state[f"master.{name}"])
        for key, flat in self.moments.items():
            for name, view in self.named(flat).items():
                view.copy_(state[f"{key}.{name}"])
        for count in self.steps:
            count.fill_(steps)


def _adder(total: Tensor):  # type: ignore[no-untyped-def]
    """Return a hook that adds a finished gradient to `total` and drops it."""

    def add(parameter: Tensor) -> None:
        assert parameter.grad is not None
        total.add_(parameter.grad)
        parameter.grad = None

    return add
