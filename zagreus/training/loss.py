"""Cross-entropy of a linear layer's outputs, without ever holding all the outputs."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

from zagreus.model.cpu.cross_entropy import CpuLinearCrossEntropy
from zagreus.model.cpu.linear import product

# Logits held at a time, in numbers, and tokens at least: every block adds to the whole gradient of
# the head, which short blocks would spend their time on (at 128,256 entries and a width of 960,
# blocks of 64 tokens took a fifth longer than blocks of 256). A GPU wants large matrix products.
BLOCK = {"cpu": 2**23, "cuda": 2**29}
ROWS = 256

SoftmaxGradient = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def softmax_gradient(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return softmax(logits) - one-hot(target) [R, V] in the dtype of the logits, and the
    log-probabilities of the targets [R, 1] in fp32, for logits [R, V] and targets [R, 1].

    A compiler makes one kernel of this function: it reads the logits and writes the gradient (2.1
    GB for 4,096 tokens and 128,256 entries). Of `softmax_gradient_in_passes` it makes three kernels
    with 11.6 GB.
    """
    logits_fp32 = logits.float()
    lse = logits_fp32.logsumexp(-1, keepdim=True)
    log_probs = logits.gather(1, target).float() - lse
    hit = torch.arange(logits.shape[1], device=logits.device) == target
    return ((logits_fp32 - lse).exp() - hit.float()).to(logits.dtype), log_probs


def softmax_gradient_in_passes(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return what `softmax_gradient` does, in fewer passes than that has without a compiler.

    60 GB a step of 16,384 tokens, not 107.
    """
    log_probs = torch.log_softmax(logits, dim=-1, dtype=torch.float32)
    picked = log_probs.gather(1, target)
    minus = torch.full_like(picked, -1.0)
    return log_probs.exp_().scatter_add_(1, target, minus).to(logits.dtype), picked


class LinearCrossEntropy(torch.autograd.Function):
    """sum over tokens of weight * cross-entropy(hidden @ head.T, label), in fp32, with its
    gradients made in the forward pass.

    The vocabulary is many times wider than the model: whole logits (and their softmax, and its
    gradient) would be the largest tensors of the training. Blocks of tokens pass through one buffer
    instead.
    """

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        hidden: Tensor,
        head: Tensor,
        labels: Tensor,
        weights: Tensor,
        rows: int,
        gradient_of: SoftmaxGradient,
    ) -> Tensor:
        """Return the loss, a scalar.

        Args:
            hidden: [T, H].
            head: [V, H].
            labels: [T].
            weights: [T], fp32.
            rows: tokens of a block.
            gradient_of: `softmax_gradient` as a compiler made it, or `softmax_gradient_in_passes`.
        """
        hidden_gradient = torch.empty_like(hidden)
        head_gradient = torch.zeros(head.shape, dtype=torch.float32, device=head.device)
        loss = torch.zeros((), dtype=torch.float32, device=hidden.device)
        for start in range(0, len(hidden), rows):
            block, target = hidden[start : start + rows], labels[start : start + rows, None]
            weight = weights[start : start + rows, None]
            gradient, log_probs = gradient_of(torch.mm(block, head.t()), target)
            loss -= (log_probs * weight).sum()
            # The weights go onto the narrow side of both products.
            torch.mul(torch.mm(gradient, head), weight, out=hidden_gradient[start : start + rows])
            _add_product(head_gradient, gradient.t(), (block * weight).to(block.dtype))
        ctx.save_for_backward(hidden_gradient, head_gradient)
        ctx.dtype = head.dtype
        return loss

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, Tensor, None, None, None, None]:
        hidden_gradient, head_gradient = (
            ctx.saved_tensors
        )  # the first in place: it serves one backward pass
        # One pass over the head's gradient: scaled, rounded, [V, H] as the parameter has it.
        rounded = torch.empty_like(head_gradient, dtype=ctx.dtype)
        torch.mul(head_gradient, outer[0], out=rounded)
        return hidden_gradient.mul_(outer[0]), rounded, None, None, None, None


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """Add left @ right to `total` (fp32), [V, H] for left [V, R] and right [R, H].

    In the product's own accumulators where torch can do
    that, elsewhere after rounding to the product's dtype."""
    if right.dtype == total.dtype:
        total.addmm_(left, right)
    elif _adds_in_fp32(total.device, right.dtype):
        torch.addmm(total, left, right, out_dtype=total.dtype, out=total)
    else:
        total += torch.mm(left, right)


@cache
def _adds_in_fp32(device: torch.device, dtype: torch.dtype) -> bool:
    """Return whether torch adds a product of a dtype to an fp32 matrix in one kernel on a device.

    CUDA's does since some version: the first
    ones that knew `out_dtype` wanted the matrix in the product's dtype."""
    total, sides = (
        torch.zeros(16, 16, device=device),
        torch.zeros(16, 16, dtype=dtype, device=device),
    )
    try:
        torch.addmm(total, sides, sides, out_dtype=torch.float32, out=total)
    except (RuntimeError, TypeError):
        return False
    return True


def linear_cross_entropy(
    hidden: Tensor,
    head: Tensor,
    labels: Tensor,
    weights: Tensor,
    gradient_of: SoftmaxGradient | None = None,
) -> Tensor:
    """Return the weighted sum of the tokens' cross-entropies; see `LinearCrossEntropy`.

    On a CPU this is the function of `zagreus.model.cpu`, unless `gradient_of` says otherwise.
    """
    rows = _rows(hidden, head)
    if gradient_of is None and hidden.device.type == "cpu":
        return CpuLinearCrossEntropy.apply(hidden, head, labels, weights, rows)  # type: ignore[no-any-return, no-untyped-call]
    return LinearCrossEntropy.apply(
        hidden, head, labels, weights, rows, gradient_of or softmax_gradient_in_passes
    )  # type: ignore[no-any-return, no-untyped-call]


def token_losses(hidden: Tensor, head: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy of each token, fp32 [T], without gradients. Shapes.

    Hidden [T, H], head [V, H], labels [T].
    """
    rows, losses = _rows(hidden, head), []
    for block, target in zip(hidden.split(rows), labels.split(rows), strict=True):
        log_probs = torch.log_softmax(product(block, head), dim=-1, dtype=torch.float32)
        losses.append(-log_probs.gather(1, target[:, None])[:, 0])
    return torch.cat(losses)


def _rows(hidden: Tensor, head: Tensor) -> int:
    """Return how many tokens' logits are held at a time.

    On a GPU a multiple of 256, so that the tiles of matrix products are full.
    """
    if hidden.device.type == "cpu":
        return max(ROWS, BLOCK["cpu"] // head.shape[0])
    return max(ROWS, BLOCK["cuda"] // head.shape[0] // 256 * 256)
