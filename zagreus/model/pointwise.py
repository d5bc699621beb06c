"""RMSNorm and SwiGLU on a CPU in fp32, by hand: autograd's own passes over memory, and exponentials, are twice as many.

Elsewhere torch.compile makes one kernel of the plain formulas of `zagreus.model.llama`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


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
    """silu(gate) * up, for the fused [..., 2I]: I gates, then I values."""

    @staticmethod
    def forward(ctx: Any, gate_up: Tensor) -> Tensor:  # type: ignore[override]
        gate, up = gate_up.chunk(2, dim=-1)
        sigmoid = torch.sigmoid(gate)
        ctx.save_for_backward(gate_up, sigmoid)
        return (gate * sigmoid).mul_(up)

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> Tensor:
        gate_up, sigmoid = ctx.saved_tensors
        gate, up = gate_up.chunk(2, dim=-1)
        gradient = torch.empty_like(gate_up)
        gate_gradient, up_gradient = gradient.chunk(2, dim=-1)
        silu = torch.mul(gate, sigmoid)
        torch.mul(outer[0], silu, out=up_gradient)
        # d silu / d gate = sigmoid + silu * (1 - sigmoid)
        silu.addcmul_(silu, sigmoid, value=-1).add_(sigmoid).mul_(up)
        torch.mul(silu, outer[0], out=gate_gradient)
        return gradient
