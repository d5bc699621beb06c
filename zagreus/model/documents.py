"""Which positions of a window a position may attend to where documents do not see one another.

A window of packed text holds parts of several documents. Shapes as in `zagreus.model.llama`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask


class Marks(NamedTuple):
    """The tokens that show where a document begins and ends; a shard has one of the two.

    Where both are one token (a tokenizer without a begin token), it ends a document.
    """

    begin: int
    end: int


def document_starts(input_ids: Tensor, marks: Marks) -> Tensor:
    """Return the position at which each position's document starts, int64 [B, S], for ids [B, S].

    A document has its begin token and its end token. A window's first document starts at its first
    position, wherever its text began.
    """
    positions = torch.arange(input_ids.shape[1], device=input_ids.device)
    first = input_ids == marks.begin if marks.begin != marks.end else positions < 0
    first = first | (input_ids == marks.end).roll(1, dims=1)
    first[:, 0] = True
    return torch.where(first, positions, 0).cummax(dim=1).values


def document_mask(starts: Tensor) -> Tensor:
    """Return which keys a query sees, bool [B, 1, S, S], for `document_starts`."""
    positions = torch.arange(starts.shape[1], device=starts.device)
    causal = positions <= positions[:, None]
    return (causal & (positions >= starts[:, :, None])).unsqueeze(1)


def document_blocks(starts: Tensor) -> BlockMask:
    """Return what `document_mask` says as blocks for FlexAttention, which skips the empty ones."""

    def visible(batch: Tensor, _: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (key <= query) & (key >= starts[batch, query])

    batch, length = starts.shape
    return create_block_mask(visible, batch, None, length, length, device=starts.device)
