"""Causal attention with rotary positions on a CPU in fp32, by hand: blocks of queries whose scores stay in the processor's cache.

torch's own (`scaled_dot_product_attention`) works in blocks of 32 to 64 queries at 40 GFLOP/s of the 110 that an AMD EPYC (Zen 4) has, and
wants queries and keys rotated and laid out anew first. Here a head's block is four products at 90 and one pass of softmax over what they
left in the cache: 71 ms instead of 113, forward and backward, for 8 sequences of 512 and 4 heads of 64.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

# Up to this many positions the probabilities are kept for the backward pass, and beyond computed again: they grow with the square.
KEPT = 1024


class CausalAttention(torch.autograd.Function):
    """Grouped-query attention from the fused projection. Shapes as in `zagreus.model.llama`."""

    @staticmethod
    def forward(ctx: Any, qkv: Tensor, cosine: Tensor, sine: Tensor, heads: int, pairs: int, interleaved: bool) -> Tensor:  # type: ignore[override]
        """Return the heads' mixed values [B, S, N * D] for qkv [B, S, (N + 2K) * D] and the tables of `Rotary`, [S, D/2] each."""
        batch, length, width = qkv.shape
        size = width // (heads + 2 * pairs)
        result = qkv.new_empty(batch, length, heads * size)
        rotated = qkv.new_empty(batch, heads + pairs, length, size)
        keep = ctx.needs_input_grad[0] and length <= KEPT
        work = _Work(length, size)
        probabilities = []
        for sequence in range(batch):
            x, turned = _heads(qkv[sequence], size), rotated[sequence]
            # The queries' tables carry the scale of the scores.
            _rotate(x[:heads], cosine * size**-0.5, sine * size**-0.5, turned[:heads], interleaved)
            _rotate(x[heads : heads + pairs], cosine, sine, turned[heads:], interleaved)
            mixed = _heads(result[sequence], size)
            for head in range(heads):
                pair = heads + head * pairs // heads
                keys, values, out = turned[pair].t(), x[pair + pairs], mixed[head]
                for start, query in enumerate(turned[head].split(work.rows)):
                    shares, start, end = work.shares(query, keys, start, keep)
                    torch.mm(shares, values[:end], out=out[start:end])
                    if keep:
                        probabilities.append(shares)
        ctx.save_for_backward(qkv, rotated, cosine, sine)
        ctx.probabilities, ctx.heads, ctx.pairs, ctx.interleaved = probabilities, heads, pairs, interleaved
        return result

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, None, None, None, None, None]:
        qkv, rotated, cosine, sine = ctx.saved_tensors
        heads, pairs, (batch, length, width) = ctx.heads, ctx.pairs, qkv.shape
        size = width // (heads + 2 * pairs)
        gradient = torch.empty_like(qkv)
        turned_gradient = qkv.new_empty(heads + pairs, length, size)
        work, kept = _Work(length, size), iter(ctx.probabilities)
        for sequence in range(batch):
            x, turned, dx = _heads(qkv[sequence], size), rotated[sequence], _heads(gradient[sequence], size)
            turned_gradient[heads:].zero_()
            dx[heads + pairs :].zero_()
            mixed = _heads(outer[0][sequence], size)
            for head in range(heads):
                pair = heads + head * pairs // heads
                keys, values = turned[pair], x[pair + pairs].t()
                keys_gradient, values_gradient = turned_gradient[pair], dx[pair + pairs]
                blocks = zip(turned[head].split(work.rows), turned_gradient[head].split(work.rows), mixed[head].split(work.rows))
                for start, (query, query_gradient, above) in enumerate(blocks):
                    shares = next(kept, None)
                    if shares is None:
                        shares, *_ = work.shares(query, keys.t(), start, False)
                    end = shares.shape[1]
                    values_gradient[:end].addmm_(shares.t(), above)
                    scores = torch.mm(above, values[:, :end], out=work.block(1, len(query), end))
                    torch._softmax_backward_data(scores, shares, -1, torch.float32, grad_input=scores)
                    torch.mm(scores, keys[:end], out=query_gradient)
                    keys_gradient[:end].addmm_(scores.t(), query)
            _rotate(turned_gradient[:heads], cosine * size**-0.5, sine * -(size**-0.5), dx[:heads], ctx.interleaved)
            _rotate(turned_gradient[heads:], cosine, -sine, dx[heads : heads + pairs], ctx.interleaved)
        return gradient, None, None, None, None, None


class _Work:
    """Memory for a block of queries against all keys before its end, used again for every block."""

    def __init__(self, length: int, size: int) -> None:
        self.rows = min(128, max(64, length // 8))
        self.memory = torch.empty(2, self.rows * length)
        self.future = torch.full((self.rows, self.rows), -math.inf).triu_(1)

    def block(self, number: int, rows: int, columns: int) -> Tensor:
        """Return one of the two buffers as [rows, columns]."""
        return self.memory[number, : rows * columns].view(rows, columns)

    def shares(self, query: Tensor, keys: Tensor, index: int, keep: bool) -> tuple[Tensor, int, int]:
        """Return the attention of a block of queries [R, D] over keys [D, S], [R, end], and where the block starts and ends."""
        start, rows = index * self.rows, len(query)
        end = start + rows
        out = query.new_empty(rows, end) if keep else self.block(0, rows, end)
        torch.mm(query, keys[:, :end], out=out)
        out[:, start:].add_(self.future[:rows, :rows])
        return torch.softmax(out, -1, out=out), start, end


def _heads(x: Tensor, size: int) -> Tensor:
    """View [S, heads * D] as [heads, S, D]."""
    return x.view(len(x), -1, size).transpose(0, 1)


def _rotate(x: Tensor, cosine: Tensor, sine: Tensor, out: Tensor, interleaved: bool) -> None:
    """Rotate x [heads, S, D] into `out`; with the sine negated, back."""
    (first, second), (left, right) = ((t[..., ::2], t[..., 1::2]) if interleaved else t.chunk(2, dim=-1) for t in (x, out))
    torch.mul(first, cosine, out=left).addcmul_(second, sine, value=-1)
    torch.mul(second, cosine, out=right).addcmul_(first, sine)
