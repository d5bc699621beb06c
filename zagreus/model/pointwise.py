"""RMSNorm and SwiGLU on a CPU in fp32, by hand: autograd's own passes over memory, and exponentials, are twice as many.

Elsewhere torch.compile makes one kernel of the plain formulas of `zagreus.model.llama`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

BLOCK = 2**17  # numbers of the widest matrix of a pass: half a megabyte, of the megabyte of second-level cache that a core has


class RMSNormalize(torch.autograd.Function):
    """weight * x / rms(x), for x [..., H] and weight [H]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:  # type: ignore[override]
        rows = x.flatten(0, -2)
        scale = torch.linalg.vector_norm(rows, dim=-1, keepdim=True).square_().div_(rows.shape[1]).add_(eps).rsqrt_()
        ctx.save_for_backward(rows, weight, scale)
        return (rows * scale).mul_(weight).view(x.shape)

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, Tensor, None]:
        rows, weight, scale = ctx.saved_tensors
        above = outer[0].flatten(0, -2)
        gradient = rows * scale
        product = gradient * above
        weight_gradient = product.sum(0)
        # What changes the scale: the mean of each row of weight * above * normalised.
        mean = torch.mv(product, weight).div_(-rows.shape[1]).unsqueeze(1)
        gradient.mul_(mean).add_(torch.mul(above, weight, out=product)).mul_(scale)
        return gradient.view(outer[0].shape), weight_gradient, None


class SwiGLU(torch.autograd.Function):
    """silu(gate) * up, for the fused [..., 2I]: I gates, then I values. Rows pass in blocks that stay in the processor's cache: the passes
    of the formula over all of a batch are an eighth of a small model's step, and half of that is waiting for memory."""

    @staticmethod
    def forward(ctx: Any, gate_up: Tensor) -> Tensor:  # type: ignore[override]
        rows = gate_up.flatten(0, -2)
        inner = rows.shape[1] // 2
        sigmoid, result = (rows.new_empty(len(rows), inner) for _ in range(2))
        for block, gate_shares, out in _blocks(rows, sigmoid, result):
            gate, up = block[:, :inner], block[:, inner:]
            torch.sigmoid(gate, out=gate_shares)
            torch.mul(gate, gate_shares, out=out).mul_(up)
        ctx.save_for_backward(rows, sigmoid)
        return result.view(*gate_up.shape[:-1], inner)

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> Tensor:
        rows, sigmoid = ctx.saved_tensors
        inner = sigmoid.shape[1]
        gradient = torch.empty_like(rows)
        for block, gate_shares, above, out in _blocks(rows, sigmoid, outer[0].flatten(0, -2), gradient):
            gate, up, gate_gradient, up_gradient = block[:, :inner], block[:, inner:], out[:, :inner], out[:, inner:]
            silu = torch.mul(gate, gate_shares)
            torch.mul(above, silu, out=up_gradient)
            # d silu / d gate = sigmoid + silu * (1 - sigmoid)
            silu.addcmul_(silu, gate_shares, value=-1).add_(gate_shares).mul_(up)
            torch.mul(silu, above, out=gate_gradient)
        return gradient.view(*outer[0].shape[:-1], 2 * inner)


def _blocks(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Yield the same rows of matrices with as many rows, BLOCK numbers of the first one at a time."""
    return zip(*(tensor.split(max(1, BLOCK // tensors[0].shape[1])) for tensor in tensors), strict=True)
