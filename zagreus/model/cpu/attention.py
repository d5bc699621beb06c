"""Causal attention with rotary positions on a CPU in fp32, by hand.

Blocks of queries whose scores stay in the processor's cache.

torch's own (`scaled_dot_product_attention`) works in blocks of 32 to 64 queries at 40 GFLOP/s of
the 110 that an AMD EPYC (Zen 4) has, and wants queries and keys rotated and laid out anew first.
Here a block is the same positions of all heads that share keys: four products at 90 and one pass of
softmax over what they left in the cache: 64 ms instead of 110, forward and backward, for 8
sequences of 512 and 4 heads of 64 over 2 of keys.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

# Up to this many positions the probabilities are kept for the backward pass, and beyond computed
# again: they grow with the square.
KEPT = 1024


def block_rows(length: int) -> int:
    """Return how many positions of a sequence make a block.

    A part of its length, or 0 where it has no part of a useful size.
    """
    most = min(128, max(64, length // 8), length)
    return next((rows for rows in range(most, most // 2, -1) if length % rows == 0), 0)


class CausalAttention(torch.autograd.Function):
    """Grouped-query attention from the fused projection. Shapes as in `zagreus.model.llama`.

    The heads' queries (and what belongs to them) lie as [K, blocks, N / K, rows, D]: a block of all
    query heads of one key-value head is one matrix.
    """

    @staticmethod
    def forward(
        ctx: Any,
        qkv: Tensor,
        cosine: Tensor,
        sine: Tensor,
        heads: int,
        kv_heads: int,
        interleaved: bool,
        starts: Tensor | None = None,
    ) -> Tensor:  # type: ignore[override]
        """Return the heads' mixed values [B, S, N * D] for qkv [B, S, (N + 2K) * D] and the tables
        of `Rotary`, [S, D/2] each; S must have `block_rows`.

        `starts`, int64 [B, S], is the first position that each position attends to
        (`zagreus.model.documents`); None: the first of all.
        """
        batch, length, width = qkv.shape
        work = _Work(length, heads // kv_heads)
        size = width // (heads + 2 * kv_heads)
        result = qkv.new_empty(batch, length, heads * size)
        queries = qkv.new_empty(batch, kv_heads, work.blocks, work.group, work.rows, size)
        keys = qkv.new_empty(batch, kv_heads, length, size)
        mixed = torch.empty_like(queries[0])
        # The queries' tables carry the scale of the scores.
        scaled_cosine, scaled_sine = (work.table(table * size**-0.5) for table in (cosine, sine))
        keep = ctx.needs_input_grad[0] and length <= KEPT
        probabilities = []
        for sequence in range(batch):
            x = _heads(qkv[sequence], size)
            _rotate(
                work.split(x[:heads]), scaled_cosine, scaled_sine, queries[sequence], interleaved
            )
            _rotate(x[heads : heads + kv_heads], cosine, sine, keys[sequence], interleaved)
            spans = work.spans(starts, sequence)
            for kv_head in range(kv_heads):
                turned, values = keys[sequence, kv_head].t(), x[heads + kv_heads + kv_head]
                blocks = zip(
                    work.matrices(queries[sequence, kv_head]),
                    work.matrices(mixed[kv_head]),
                    spans,
                    strict=True,
                )
                for query, out, span in blocks:
                    probs = work.probs(query, turned, span, keep)
                    torch.mm(probs, values[span.begin : span.end], out=out)
                    if keep:
                        probabilities.append(probs)
            work.split(_heads(result[sequence], size)).copy_(mixed)
        ctx.save_for_backward(qkv, queries, keys, cosine, sine, starts, *probabilities)
        ctx.heads, ctx.kv_heads, ctx.interleaved = heads, kv_heads, interleaved
        return result

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        qkv, queries, keys, cosine, sine, starts, *probabilities = ctx.saved_tensors
        heads, kv_heads, (batch, length, width) = ctx.heads, ctx.kv_heads, qkv.shape
        work, kept = _Work(length, heads // kv_heads), iter(probabilities)
        size = width // (heads + 2 * kv_heads)
        gradient = torch.empty_like(qkv)
        queries_gradient, keys_gradient = torch.empty_like(queries[0]), torch.empty_like(keys[0])
        mixed = torch.empty_like(queries_gradient)
        scaled_cosine, scaled_sine = (
            work.table(cosine * size**-0.5),
            work.table(sine * -(size**-0.5)),
        )
        for sequence in range(batch):
            x, dx = _heads(qkv[sequence], size), _heads(gradient[sequence], size)
            keys_gradient.zero_()
            dx[heads + kv_heads :].zero_()
            mixed.copy_(work.split(_heads(outer[0][sequence], size)))
            spans = work.spans(starts, sequence)
            for kv_head in range(kv_heads):
                turned, values = keys[sequence, kv_head], x[heads + kv_heads + kv_head].t()
                turned_gradient, values_gradient = (
                    keys_gradient[kv_head],
                    dx[heads + kv_heads + kv_head],
                )
                matrices = (
                    work.matrices(blocks[kv_head])
                    for blocks in (queries[sequence], queries_gradient, mixed)
                )
                for query, query_gradient, above, span in zip(*matrices, spans, strict=True):
                    begin, end = span.begin, span.end
                    probs = next(kept, None)
                    if probs is None:
                        probs = work.probs(query, turned.t(), span, False)
                    values_gradient[begin:end].addmm_(probs.t(), above)
                    scores = torch.mm(above, values[:, begin:end], out=work.block(1, end - begin))
                    torch._softmax_backward_data(
                        scores, probs, -1, torch.float32, grad_input=scores
                    )
                    torch.mm(scores, turned[begin:end], out=query_gradient)
                    turned_gradient[begin:end].addmm_(scores.t(), query)
            _rotate(
                queries_gradient,
                scaled_cosine,
                scaled_sine,
                work.split(dx[:heads]),
                ctx.interleaved,
            )
            _rotate(keys_gradient, cosine, -sine, dx[heads : heads + kv_heads], ctx.interleaved)
        return gradient, None, None, None, None, None, None


class _Span(NamedTuple):
    """The keys that a block of queries attends to, and which of them a query does not see."""

    begin: int
    end: int
    hidden: Tensor | None  # bool [group * rows, end - begin]; None: later keys alone


class _Work:
    """How a sequence is cut into blocks, and memory for a block's queries against all keys before
    its end, used again for every block.
    """

    def __init__(self, length: int, group: int) -> None:
        self.group, self.rows = group, block_rows(length)
        self.blocks = length // self.rows
        self.ends = range(self.rows, length + 1, self.rows)
        self.memory = torch.empty(2, group * self.rows * length)
        self.future = torch.full((self.rows, self.rows), -math.inf).triu_(1).repeat(group, 1)

    def block(self, number: int, columns: int) -> Tensor:
        """Return one of the two buffers as [group * rows, columns]."""
        rows = self.group * self.rows
        return self.memory[number, : rows * columns].view(rows, columns)

    def spans(self, starts: Tensor | None, sequence: int) -> list[_Span]:
        """Return the span of each block of a sequence: from the start of its first query's
        document to its own end.
        """
        if starts is None:
            return [_Span(0, end, None) for end in self.ends]
        spans = []
        for first, end in zip(starts[sequence].split(self.rows), self.ends, strict=True):
            begin = int(first[0])
            hidden = None
            if int(first[-1]) > begin:
                hidden = (torch.arange(begin, end) < first[:, None]).repeat(self.group, 1)
            spans.append(_Span(begin, end, hidden))
        return spans

    def probs(self, query: Tensor, keys: Tensor, span: _Span, keep: bool) -> Tensor:
        """Return the attention of a block of queries [group * rows, D] over its span of the keys
        [D, S]: [group * rows, end - begin].
        """
        columns = span.end - span.begin
        out = query.new_empty(len(query), columns) if keep else self.block(0, columns)
        torch.mm(query, keys[:, span.begin : span.end], out=out)
        out[:, columns - self.rows :].add_(self.future)
        if span.hidden is not None:
            out.masked_fill_(span.hidden, -math.inf)
        return torch.softmax(out, -1, out=out)

    def split(self, x: Tensor) -> Tensor:
        """View [N, S, D] as [K, blocks, group, rows, D]."""
        return (
            x.unflatten(1, (self.blocks, self.rows)).unflatten(0, (-1, self.group)).transpose(1, 2)
        )

    def table(self, x: Tensor) -> Tensor:
        """View a table of `Rotary`, [S, D/2], as what goes with `split`."""
        return x.view(self.blocks, 1, self.rows, -1)

    def matrices(self, blocks: Tensor) -> tuple[Tensor, ...]:
        """Return [blocks, group, rows, D] as matrices [group * rows, D]."""
        return blocks.flatten(1, 2).unbind(0)


def _heads(x: Tensor, size: int) -> Tensor:
    """View [S, heads * D] as [heads, S, D]."""
    return x.view(len(x), -1, size).transpose(0, 1)


def _rotate(x: Tensor, cosine: Tensor, sine: Tensor, out: Tensor, interleaved: bool) -> None:
    """Rotate x [heads, S, D] into `out`; with the sine negated, back."""
    (first, second), (left, right) = (
        (t[..., ::2], t[..., 1::2]) if interleaved else t.chunk(2, dim=-1) for t in (x, out)
    )
    torch.mul(first, cosine, out=left).addcmul_(second, sine, value=-1)
    torch.mul(second, cosine, out=right).addcmul_(first, sine)
