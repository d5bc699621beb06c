"""Cross-entropy of a linear layer's outputs, without ever holding all the outputs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from zagreus.model.linear import product

# Logits held at a time, in numbers, and tokens at least: every block adds to the whole gradient of the head, which short blocks would
# spend their time on (at 128,256 entries and a width of 960, blocks of 64 tokens took a fifth longer than blocks of 256). A GPU wants large
# matrix products.
BLOCK = {"cpu": 2**23, "cuda": 2**29}
ROWS = 256
_SMALL = 1e-30  # a probability in fp32 below which its logarithm would lose digits (fp32 ends at 1e-38)


class LinearCrossEntropy(torch.autograd.Function):
    """sum over tokens of weight * cross-entropy(hidden @ head.T, label), in fp32, with its gradients made in the forward pass.

    The vocabulary is many times wider than the model: whole logits (and their softmax, and its gradient) would be the largest tensors
    of the training. Blocks of tokens pass through one buffer instead.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, head: Tensor, labels: Tensor, weights: Tensor) -> Tensor:  # type: ignore[override]
        """Return the loss, a scalar. Shapes: hidden [T, H], head [V, H], labels [T], weights [T] (fp32)."""
        rows = _rows(hidden, head)
        hidden_gradient = torch.empty_like(hidden)
        # [H, V]: with the long side last, the product of a short block is faster.
        head_gradient = torch.zeros(hidden.shape[1], head.shape[0], dtype=torch.float32, device=head.device)
        loss = torch.zeros((), dtype=torch.float32, device=hidden.device)
        minus = torch.full((rows, 1), -1.0, dtype=torch.float32, device=hidden.device)
        for start in range(0, len(hidden), rows):
            block, target = hidden[start : start + rows], labels[start : start + rows, None]
            weight = weights[start : start + rows, None]
            shares, logarithms = _shares(block, head, target)
            loss -= (logarithms * weight).sum()
            gradient = shares.scatter_add_(1, target, minus[: len(block)]).to(hidden.dtype)
            # The weights go onto the narrow side of both products.
            torch.mul(product(gradient, head.t()), weight, out=hidden_gradient[start : start + rows])
            head_gradient += product((block * weight).to(block.dtype).t(), gradient.t())
        ctx.save_for_backward(hidden_gradient, head_gradient.t().to(head.dtype))
        return loss

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, Tensor, None, None]:
        hidden_gradient, head_gradient = ctx.saved_tensors  # in place: they serve one backward pass, and the head's is large
        return hidden_gradient.mul_(outer[0]), head_gradient.mul_(outer[0]), None, None


def linear_cross_entropy(hidden: Tensor, head: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted sum of the tokens' cross-entropies; see `LinearCrossEntropy`."""
    return LinearCrossEntropy.apply(hidden, head, labels, weights)  # type: ignore[no-any-return]


def _shares(block: Tensor, head: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return the tokens' probabilities [R, V] and the logarithms of the labels' [R, 1], in fp32."""
    logits = product(block, head)
    if logits.device.type == "cpu" and logits.dtype == torch.float32:
        # In place, and the exponentials are made once, not once for their sum and once for the gradient: 5 % less of this function.
        shares = torch.softmax(logits, -1, out=logits)
        picked = shares.gather(1, target)
        if picked.min() > _SMALL:
            return shares, picked.log_()
        return shares, torch.log_softmax(product(block, head), -1).gather(1, target)
    logarithms = torch.log_softmax(logits, dim=-1, dtype=torch.float32)
    picked = logarithms.gather(1, target)
    return logarithms.exp_(), picked


def token_losses(hidden: Tensor, head: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy of each token, fp32 [T], without gradients. Shapes: hidden [T, H], head [V, H], labels [T]."""
    rows, losses = _rows(hidden, head), []
    for block, target in zip(hidden.split(rows), labels.split(rows), strict=True):
        logarithms = torch.log_softmax(product(block, head), dim=-1, dtype=torch.float32)
        losses.append(-logarithms.gather(1, target[:, None])[:, 0])
    return torch.cat(losses)


def _rows(hidden: Tensor, head: Tensor) -> int:
    """Return how many tokens' logits are held at a time."""
    return max(ROWS, BLOCK[hidden.device.type] // head.shape[0])
