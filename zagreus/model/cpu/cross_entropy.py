"""Cross-entropy of a linear layer's outputs on a CPU.

Blocks of tokens through one buffer, in place in fp32.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from zagreus.model.cpu.linear import product

_SMALL = (
    1e-30  # a probability in fp32 below which its logarithm would lose digits (fp32 ends at 1e-38)
)


class CpuLinearCrossEntropy(torch.autograd.Function):
    """sum over tokens of weight * cross-entropy(hidden @ head.T, label), with its gradients made in
    the forward pass.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, head: Tensor, labels: Tensor, weights: Tensor, rows: int
    ) -> Tensor:  # type: ignore[override]
        """Return the loss, a scalar. Shapes.

        Hidden [T, H], head [V, H], labels [T], weights [T] (fp32); `rows` tokens at a time.
        """
        hidden_gradient = torch.empty_like(hidden)
        # [H, V]: with the long side last, the product of a short block is faster.
        head_gradient = torch.zeros(hidden.shape[1], head.shape[0], dtype=torch.float32)
        loss = torch.zeros((), dtype=torch.float32)
        minus = torch.full((rows, 1), -1.0, dtype=torch.float32)
        for start in range(0, len(hidden), rows):
            block, target = hidden[start : start + rows], labels[start : start + rows, None]
            weight = weights[start : start + rows, None]
            probs, log_probs = _probs(block, head, target)
            loss -= (log_probs * weight).sum()
            gradient = probs.scatter_add_(1, target, minus[: len(block)]).to(hidden.dtype)
            # The weights go onto the narrow side of both products.
            torch.mul(
                product(gradient, head.t()), weight, out=hidden_gradient[start : start + rows]
            )
            head_gradient += product((block * weight).to(block.dtype).t(), gradient.t())
        ctx.save_for_backward(hidden_gradient, head_gradient.t().to(head.dtype))
        return loss

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        hidden_gradient, head_gradient = (
            ctx.saved_tensors
        )  # in place: they serve one backward pass, and the head's is large
        return hidden_gradient.mul_(outer[0]), head_gradient.mul_(outer[0]), None, None, None


def _probs(block: Tensor, head: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return the tokens' probabilities [R, V] and the logarithms of the labels' [R, 1], in fp32."""
    logits = product(block, head)
    if logits.dtype == torch.float32:
        # In place, and the exponentials are made once, not once for their sum and once for the
        # gradient: 5 % less of this function.
        probs = torch.softmax(logits, -1, out=logits)
        picked = probs.gather(1, target)
        if picked.min() > _SMALL:
            return probs, picked.log_()
        return probs, torch.log_softmax(product(block, head), -1).gather(1, target)
    log_probs = torch.log_softmax(logits, dim=-1, dtype=torch.float32)
    picked = log_probs.gather(1, target)
    return log_probs.exp_(), picked
