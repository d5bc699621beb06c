"""Batches: which tokens a rank sees in a step, with the mask of the labels that are trained."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from zagreus.errors import InputError
from zagreus.nanotron import Recipe
from zagreus.training.blend import Blend
from zagreus.training.nanoset import open_folders


@dataclass
class MicroBatch:
    """Inputs and labels, int64 [B, S], and which labels count, bool [B, S]."""

    input_ids: Tensor
    labels: Tensor
    mask: Tensor


class Batches:
    """The training data in nanotron's order. Micro batch m of a step holds the step's samples m * B .. (m + 1) * B - 1; rank r of R takes
    the micro batches r, r + R, ..., so that a step sees the same micro batches whatever the number of ranks."""

    def __init__(self, recipe: Recipe, drawn: list[int] | None, rank: int = 0, ranks: int = 1) -> None:
        """Open the folders of the recipe, `drawn` samples of each already used (None: at the first step)."""
        dataset, self.recipe, self.rank, self.ranks = recipe.dataset, recipe, rank, ranks
        self.folders = open_folders(recipe)
        self.blend = Blend(dataset.weights, drawn)
        self.eos = recipe.model.model_config.eos_token_id if dataset.return_positions else None

    def next(self) -> list[MicroBatch]:
        """Return this rank's micro batches of the next step."""
        size = self.recipe.tokens.micro_batch_size
        order = [self.blend.next() for _ in range(self.recipe.global_batch_size)]
        starts = range(self.rank * size, self.recipe.global_batch_size, self.ranks * size)
        return [self._micro_batch(order[start : start + size]) for start in starts]

    def _micro_batch(self, samples: list[tuple[int, int]]) -> MicroBatch:
        tokens = np.stack([self.folders[folder].read(window) for folder, window in samples])
        limit = self.recipe.model.model_config.vocab_size
        if tokens.max() >= limit:
            row = int(tokens.max(axis=1).argmax())
            file, window = self.folders[samples[row][0]].locate(samples[row][1])
            raise InputError(f"{file}: token {tokens.max()} in window {window}, expected ids below the vocabulary's size ({limit})")
        block = torch.from_numpy(tokens)
        inputs, labels = block[:, :-1].contiguous(), block[:, 1:].contiguous()
        # Positions restart after each end of text, and the label at position 0 is not trained (nanotron's collator).
        mask = torch.ones_like(inputs, dtype=torch.bool) if self.eos is None else inputs != self.eos
        return MicroBatch(inputs, labels, mask)
