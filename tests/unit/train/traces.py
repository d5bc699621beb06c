"""A training step of the published shape on meta tensors, operator by operator.

FLOPs, bytes, kernels, what is kept for backward.
"""

from __future__ import annotations

import collections
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from zagreus.model.llama import Llama
from zagreus.recipe.schema import Recipe
from zagreus.training.loss import (
    SoftmaxGradient,
    _adds_in_fp32,
    linear_cross_entropy,
    softmax_gradient,
    softmax_gradient_in_passes,
)
from zagreus.training.optimizer import FlatAdamW

PRODUCTS = ("mm.", "addmm.")
VIEWS = (
    *(
        "view",
        "transpose",
        "permute",
        "slice",
        "expand",
        "unsqueeze",
        "detach",
        "alias",
        "split",
        "t.",
    ),
    *("_unsafe_view", "as_strided", "empty", "new_empty"),
)
FILLS = ("zeros", "full", "zero_", "fill_", "ones", "new_zeros")


def size_of(value: Any) -> int:
    """Bytes of all tensors in a tree."""
    return sum(
        leaf.numel() * leaf.element_size()
        for leaf in tree_leaves(value)
        if isinstance(leaf, Tensor)
    )


@dataclass
class Trace:
    """What a step did, by phase (`forward`, `loss`, `backward`, `optimizer`).

    Bytes that element-wise kernels read and write, kernels of
    all kinds, FLOPs of matrix products; and bytes that the layers keep for backward."""

    bytes: collections.Counter[str] = field(default_factory=collections.Counter)
    kernels: collections.Counter[str] = field(default_factory=collections.Counter)
    flops: int = 0
    saved: int = 0


class Count(TorchDispatchMode):
    """Counts operators; `fused` ones as one kernel that reads its inputs and writes its outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.trace, self.phase, self.quiet = Trace(), "forward", False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func.__name__
        if self.quiet or func.is_view or name.startswith(VIEWS):
            return result
        self.trace.kernels[self.phase] += 1
        if name.startswith(
            "_fused_adamw"
        ):  # its lists are written in place, and it returns nothing
            self.trace.bytes[self.phase] += size_of(args[:4]) * 2
        elif name.startswith(PRODUCTS):
            left, right = args[-3:-1] if name == "addmm.dtype_out" else args[-2:]
            self.trace.flops += 2 * left.shape[0] * left.shape[1] * right.shape[1]
        elif name.startswith(("gather", "scatter_add")):  # one element a row
            self.trace.bytes[self.phase] += 3 * size_of(args[2])
        else:
            # An operator in place has its tensor as argument and as result: read and written, as it
            # is.
            self.trace.bytes[self.phase] += size_of(
                result if name.startswith(FILLS) else (args, kwargs, result)
            )
        return result

    def fused(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function whose operators count as one kernel, as a compiler makes them."""

        def run(*tensors: Tensor) -> Any:
            self.quiet = True
            result = function(*tensors)
            self.quiet = False
            self.trace.kernels[self.phase] += 1
            self.trace.bytes[self.phase] += size_of((tensors, result))
            return result

        return run


ACTIVE: list[Count] = []


def kernel(inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...]) -> None:
    """Count a kernel that meta tensors do not have."""
    counter = ACTIVE[-1]
    counter.trace.kernels[counter.phase] += 1
    counter.trace.bytes[counter.phase] += size_of((inputs, outputs))


class Flash(torch.autograd.Function):
    """Attention as one kernel forward and one backward, which keep the log-sum-exp."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:  # type: ignore[override]
        out = query.new_empty(
            query.shape[0], query.shape[2], query.shape[1], query.shape[3]
        ).transpose(1, 2)
        lse = query.new_empty(query.shape[:3], dtype=torch.float32)
        kernel((query, key, value), (out, lse))
        ctx.save_for_backward(query, key, value, out, lse)
        return out

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, ...]:
        saved = ctx.saved_tensors
        result = tuple(torch.empty_like(tensor) for tensor in saved[:3])
        kernel((*saved, *outer), result)
        return result


class FusedNorm(torch.autograd.Function):
    """RMSNorm as the kernels of a GPU have it.

    One forward, two backward (the weight's gradient apart).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:  # type: ignore[override]
        scale, result = x.new_empty((*x.shape[:-1], 1), dtype=torch.float32), torch.empty_like(x)
        kernel((x, weight), (result, scale))
        ctx.save_for_backward(x, weight, scale)
        return result

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, Tensor]:
        x, weight, scale = ctx.saved_tensors
        result = torch.empty_like(x), torch.empty_like(weight)
        kernel((x, weight, scale, *outer), result[:1])
        kernel((x, *outer), result[1:])
        return result


def install(monkeypatch: Any) -> None:
    """Put the kernels of a GPU in the place of those that meta tensors lack."""
    functional = torch.nn.functional
    monkeypatch.setattr(
        functional, "scaled_dot_product_attention", lambda q, k, v, **_: Flash.apply(q, k, v)
    )
    monkeypatch.setattr(functional, "rms_norm", lambda x, _, weight, __: FusedNorm.apply(x, weight))


def trace_step(
    recipe: Recipe,
    micro_batch: int,
    layers: int | None = None,
    fused_loss: bool = True,
    recompute: bool = False,
) -> Trace:
    """Trace one micro batch and the update of a recipe's model; `install` comes first.

    Args:
        layers: traced in place of all.
        fused_loss: the loss's softmax and gradient are one kernel, as the compiler makes them.
    """
    config = recipe.model.model_config
    config = replace(config, num_hidden_layers=layers or config.num_hidden_layers)
    length = recipe.tokens.sequence_length
    with torch.device("meta"):
        model = Llama(config, recipe.model.padded_vocab_size).to(getattr(torch, recipe.model.dtype))
        optimizer = FlatAdamW(model, recipe.optimizer, fewer_passes=True)
        ids = torch.zeros(micro_batch, length, dtype=torch.int64)
        weights = torch.zeros(micro_batch * length)
    model.recompute_layer = recompute
    kept: dict[int, tuple[int, Tensor]] = {}

    def keep(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, torch.nn.Parameter):
            storage = tensor.untyped_storage()
            kept.setdefault(storage._cdata, (storage.nbytes(), tensor))
        return tensor

    _adds_in_fp32(torch.device("meta"), torch.bfloat16)  # asks torch once, and is no part of a step
    counter = Count()
    gradient_of: SoftmaxGradient = (
        counter.fused(softmax_gradient) if fused_loss else softmax_gradient_in_passes
    )
    ACTIVE[:] = [counter]
    with counter:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            hidden = model(ids).flatten(0, 1)
        counter.trace.saved = sum(size for size, _ in kept.values())
        counter.phase = "loss"
        loss = linear_cross_entropy(hidden, model.head, ids.flatten(), weights, gradient_of)
        counter.phase = "backward"
        loss.backward()
        counter.phase = "optimizer"
        optimizer.step(1e-3)
    return counter.trace
