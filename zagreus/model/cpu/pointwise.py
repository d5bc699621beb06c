"""RMSNorm and SwiGLU on a CPU in fp32, by hand.

Autograd's own passes over memory, and exponentials, are twice as many.

Elsewhere torch.compile makes one kernel of the formulas of `zagreus.model.llama`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

# Elements of the widest matrix of a pass: half a megabyte, of the megabyte of second-level cache
# that a core has.
BLOCK = 2**17


class RMSNormalize(torch.autograd.Function):
    """weight * x / rms(x), for x [..., H] and weight [H]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:  # type: ignore[override]
        rows = x.flatten(0, -2)
        scale = (
            torch.linalg.vector_norm(rows, dim=-1, keepdim=True)
            .square_()
            .div_(rows.shape[1])
            .add_(eps)
            .rsqrt_()
        )
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
    """silu(gate) * up, for the fused [..., 2I]: I gates, then I values.

    Rows pass in blocks that stay in the processor's cache: the passes
    of the formula over all of a batch are an eighth of a small model's step, and half of that is
    waiting for memory.

    The fused matrix is used up: its place takes the derivatives, and then, in the one backward pass
    that they serve, the gradient.
    """

    @staticmethod
    def forward(ctx: Any, gate_up: Tensor) -> Tensor:  # type: ignore[override]
        rows = gate_up.detach().flatten(0, -2)
        inner = rows.shape[1] // 2
        result = rows.new_empty(len(rows), inner)
        for block, out in _blocks(rows, result):
            gate, up = block[:, :inner], block[:, inner:]
            sigmoid = torch.sigmoid(gate)
            if not ctx.needs_input_grad[0]:
                torch.mul(gate, sigmoid, out=out).mul_(up)
                continue
            silu = gate * sigmoid
            torch.mul(silu, up, out=out)
            # d silu / d gate = sigmoid + silu * (1 - sigmoid)
            torch.mul(torch.addcmul(silu, silu, sigmoid, value=-1).add_(sigmoid), up, out=gate)
            up.copy_(silu)
        ctx.save_for_backward(rows)
        return result.view(*gate_up.shape[:-1], inner)

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> Tensor:
        (rows,) = ctx.saved_tensors
        inner = rows.shape[1] // 2
        for block, above in _blocks(rows, outer[0].flatten(0, -2)):
            block[:, :inner].mul_(above)
            block[:, inner:].mul_(above)
        return rows.view(*outer[0].shape[:-1], 2 * inner)


def _blocks(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Yield the same rows of several matrices, BLOCK elements of the first at a time."""
    return zip(
        *(tensor.split(max(1, BLOCK // tensors[0].shape[1])) for tensor in tensors), strict=True
    )
