"""The forward pass of a transformers decoder over pieces of a tree of tokens, with nothing computed
that is not asked for.

Weights and formulas are those of transformers' own Llama, Mistral, Qwen2 and Qwen3, which are the
reference; the work is another:

- on a CPU products go through oneDNN: torch's own go through MKL, which keeps to AVX2 on processors
  that are not Intel's;
- attention is in blocks of positions whose scores stay in the processor's cache, all heads that
  share keys as one matrix: keys and values are not repeated for each head, and a block sees nothing
  that comes after it;
- keys and values are written where they stay, instead of being joined anew for every pass;
- of the last layer, beyond keys and values, only the tokens that are asked for go through.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy
import torch
from torch import Tensor, nn
from torch.nn import functional

from zagreus.evaluation.tree import Piece

# Positions of a block of attention. On a CPU the scores of three heads against 850 tokens are then
# half a megabyte, of the megabyte of second-level cache that a core has.
ROWS = {"cpu": 64, "cuda": 1024}


def product(x: Tensor, linear: nn.Module) -> Tensor:
    """Return what a linear layer makes of x [rows, inputs]."""
    if x.device.type == "cpu" and x.dtype == torch.float32 and torch.backends.mkldnn.is_available():
        return torch.ops.mkldnn._linear_pointwise(x, linear.weight, linear.bias, "none", [], "")
    return functional.linear(x, linear.weight, linear.bias)


@dataclass(frozen=True)
class Block:
    """Rows `first` to `stop` of those that are asked for.

    They see the tokens of the piece from `begin` to `low`, and those from `low` to
    `end` that the mask [stop - first, end - low] leaves (0, or minus infinity). What is in the
    cache they see whole."""

    first: int
    stop: int
    begin: int
    low: int
    end: int
    mask: Tensor


def blocks(piece: Piece, rows: numpy.ndarray, size: int, device: torch.device) -> list[Block]:
    """Return rows of a piece, in their order, as blocks of `size` at most."""
    seen = None if piece.chain else piece.mask()
    made = []
    for first in range(0, len(rows), size):
        part = rows[first : first + size]
        end = int(part[-1]) + 1
        if seen is None:
            begin, low = 0, int(part[0])
            own = part[:, None] >= numpy.arange(low, end)
        else:
            # Without a cache before them, sequences that share nothing with these rows are left
            # out.
            begin = low = 0 if piece.start else int(seen[part].any(axis=0).argmax())
            own = seen[part, low:end]
        mask = torch.zeros(own.shape).masked_fill_(torch.from_numpy(~own), float("-inf")).to(device)
        made.append(Block(first, first + len(part), begin, low, end, mask))
    return made


class Decoder:
    """A model's layers, and the keys and values of the tokens that come before a piece."""

    def __init__(self, model: Any, capacity: int) -> None:
        """Make room for the keys and values of `capacity` tokens."""
        self.base, self.embedding = model.base_model, model.get_input_embeddings()
        first = self.base.layers[0].self_attn
        self.size, self.pairs = first.head_dim, model.config.num_key_value_heads
        self.group = model.config.num_attention_heads // self.pairs
        shape = (len(self.base.layers), 2, self.pairs, capacity, self.size)
        self.kept = torch.empty(shape, dtype=model.dtype, device=model.device)

    def forward(self, piece: Piece, rows: numpy.ndarray) -> Tensor:
        """Return the last hidden states of rows of a piece, [len(rows), hidden], whose keys and
        values take their place after `piece.start`.
        """
        device = self.kept.device
        hidden = self.embedding(torch.from_numpy(piece.tokens).to(device))
        tables = self.base.rotary_emb(hidden[None], torch.from_numpy(piece.depths).to(device)[None])
        cosine, sine = (table[0, :, None, : self.size // 2] for table in tables)
        size = ROWS[device.type]
        every = blocks(piece, numpy.arange(len(piece.tokens)), size, device)
        *others, last = range(len(self.base.layers))
        for number in others:
            hidden = self._layer(number, hidden, (cosine, sine), every, piece.start)
        row_indices = torch.from_numpy(rows).to(device)
        hidden = self._layer(
            last,
            hidden,
            (cosine, sine),
            blocks(piece, rows, size, device),
            piece.start,
            row_indices,
        )
        return _normalized(hidden, self.base.norm)

    def _layer(
        self,
        number: int,
        hidden: Tensor,
        tables: tuple[Tensor, Tensor],
        parts: Sequence[Block],
        start: int,
        row_indices: Tensor | None = None,
    ) -> Tensor:
        """Return what a layer makes of the hidden states [tokens, hidden], of all rows or of those
        asked for.
        """
        layer = self.base.layers[number]
        attention, mlp = layer.self_attn, layer.mlp
        x = _normalized(hidden, layer.input_layernorm)
        keys, values = self.kept[number]
        end = start + len(x)
        key = self._heads(product(x, attention.k_proj), attention, "k_norm")
        cosine, sine = tables
        _turn(key, cosine, sine, out=keys[:, start:end].transpose(0, 1))
        values[:, start:end] = (
            product(x, attention.v_proj).unflatten(1, (-1, self.size)).transpose(0, 1)
        )
        if row_indices is not None:
            hidden, x = hidden[row_indices], x[row_indices]
            cosine, sine = cosine[row_indices], sine[row_indices]
            if not len(row_indices):
                return hidden
        query = self._heads(product(x, attention.q_proj), attention, "q_norm")
        turned = query.new_empty(self.pairs, self.group, len(x), self.size)
        _turn(
            query,
            cosine * attention.scaling,
            sine * attention.scaling,
            out=turned.flatten(0, 1).transpose(0, 1),
        )
        mixed = self._attend(turned, keys, values, parts, start)
        hidden = hidden + product(mixed, attention.o_proj)
        x = _normalized(hidden, layer.post_attention_layernorm)
        x = mlp.act_fn(product(x, mlp.gate_proj)).mul_(product(x, mlp.up_proj))
        return hidden.add_(product(x, mlp.down_proj))

    def _heads(self, x: Tensor, attention: nn.Module, norm: str) -> Tensor:
        """Return [tokens, heads * size] as [tokens, heads, size], normalized by head where the
        model does that (Qwen3).
        """
        heads = x.unflatten(1, (-1, self.size))
        return _normalized(heads, getattr(attention, norm)) if hasattr(attention, norm) else heads

    def _attend(
        self, queries: Tensor, keys: Tensor, values: Tensor, parts: Sequence[Block], start: int
    ) -> Tensor:
        """Return the mixed values [rows, heads * size] for queries [pairs, group, rows, size],
        turned and scaled.
        """
        rows = queries.shape[2]
        result = queries.new_empty(rows, self.pairs, self.group, self.size)
        for part in parts:
            block_queries = queries[:, :, part.first : part.stop].flatten(
                1, 2
            )  # [pairs, group * block, size]
            # `begin` is 0 where there are tokens in the cache.
            span = slice(part.begin, start + part.end)
            scores = torch.bmm(block_queries, keys[:, span].transpose(1, 2))
            scores.unflatten(1, (self.group, -1))[..., start + part.low - part.begin :].add_(
                part.mask
            )
            mixed = torch.bmm(torch.softmax(scores, -1, out=scores), values[:, span])
            result[part.first : part.stop] = mixed.unflatten(1, (self.group, -1)).permute(
                2, 0, 1, 3
            )
        return result.flatten(1)


def _normalized(x: Tensor, norm: nn.Module) -> Tensor:
    """Return weight * x / rms(x)."""
    scale = (
        torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        .square_()
        .div_(x.shape[-1])
        .add_(norm.variance_epsilon)
        .rsqrt_()
    )
    return (x * scale).mul_(norm.weight)


def _turn(x: Tensor, cosine: Tensor, sine: Tensor, out: Tensor) -> None:
    """Rotate x [tokens, heads, size] by the tables [tokens, 1, size / 2] into `out`."""
    (first, second), (left, right) = x.chunk(2, dim=-1), out.chunk(2, dim=-1)
    torch.mul(first, cosine, out=left).addcmul_(second, sine, value=-1)
    torch.mul(second, cosine, out=right).addcmul_(first, sine)
