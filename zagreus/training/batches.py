"""Batches: which tokens a rank sees in a step, with the mask of the labels that are trained."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from zagreus.errors import InputError
from zagreus.recipe.schema import Recipe
from zagreus.training.blend import Blend, drawn_at
from zagreus.training.nanoset import TokenFolder, open_folders, stage_weights


@dataclass
class MicroBatch:
    """Inputs and labels, int64 [B, S], and which labels count, bool [B, S]."""

    input_ids: Tensor
    labels: Tensor
    mask: Tensor


class Batches:
    """The training data in nanotron's order.

    Micro batch m of a step holds the step's samples m * B .. (m + 1) * B - 1; rank r of R takes
    the micro batches r, r + R, ..., so that a step sees the same micro batches whatever the number
    of ranks."""

    def __init__(
        self,
        recipe: Recipe,
        step: int = 0,
        drawn: list[list[int]] | None = None,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        """Open the folders of the recipe after `step` steps.

        Args:
            drawn: samples taken from each folder in each stage so far, where it is known; it is
                found in O(1) where it is not.
        """
        self.recipe, self.rank, self.ranks = recipe, rank, ranks
        self.stages = [open_folders(recipe, stage) for stage in recipe.data_stages]
        self.weights = [
            stage_weights(recipe, *pair)
            for pair in zip(recipe.data_stages, self.stages, strict=True)
        ]
        self.step = step
        self.drawn = self._drawn(step) if drawn is None else [list(counts) for counts in drawn]
        self._enter(len(self.drawn) - 1)

    def _drawn(self, step: int) -> list[list[int]]:
        """Return the samples taken from each folder in each stage that has begun."""
        starts = [stage.start_training_step - 1 for stage in self.recipe.data_stages]
        ends = [*starts[1:], step]
        return [
            drawn_at(self.weights[index], (min(end, step) - start) * self.recipe.global_batch_size)
            for index, (start, end) in enumerate(zip(starts, ends, strict=True))
            if start < step or start == 0
        ]

    def _enter(self, stage: int) -> None:
        """Read from a stage.

        A folder that earlier stages read too goes on where they left it (nanotron's offsets).
        """
        while len(self.drawn) <= stage:
            self.drawn.append([0] * len(self.weights[len(self.drawn)]))
        dataset = self.recipe.data_stages[stage].data.dataset
        self.folders, self.blend = self.stages[stage], Blend(self.weights[stage], self.drawn[stage])
        self.drawn[stage] = self.blend.drawn
        before: dict[str, int] = {}
        for earlier in range(stage):
            for path, count in zip(
                self.recipe.data_stages[earlier].data.dataset.folders,
                self.drawn[earlier],
                strict=True,
            ):
                before[path] = before.get(path, 0) + count
        self.offsets = [before.get(path, 0) for path in dataset.folders]
        self.eos = self.recipe.model.model_config.eos_token_id if dataset.return_positions else None

    def next(self) -> list[MicroBatch]:
        """Return this rank's micro batches of the next step."""
        size = self.recipe.tokens.micro_batch_size
        self.step += 1
        if self.recipe.stage_at(self.step) >= len(self.drawn):
            self._enter(self.recipe.stage_at(self.step))
        drawn = (self.blend.next() for _ in range(self.recipe.global_batch_size))
        order = self.order = [(folder, window + self.offsets[folder]) for folder, window in drawn]
        starts = range(self.rank * size, self.recipe.global_batch_size, self.ranks * size)
        return [
            read_micro_batch(self.recipe, self.folders, order[start : start + size], self.eos)
            for start in starts
        ]

    def origin(self) -> str:
        """Return where the last batch came from.

        For each folder the file and window of its first sample there, and how many there are.
        """
        first: dict[int, int] = {}
        for folder, window in self.order:
            first.setdefault(folder, window)
        parts = []
        for folder, window in sorted(first.items()):
            file, position = self.folders[folder].locate(window)
            parts.append(
                f"{sum(index == folder for index, _ in self.order)} from {file} window {position} "
                "on"
            )
        return "; ".join(parts)


def read_micro_batch(
    recipe: Recipe, folders: list[TokenFolder], samples: list[tuple[int, int]], eos: int | None
) -> MicroBatch:
    """Read windows of token folders.

    Args:
        samples: index of the folder and number of the window of each sample.
        eos: the input after which a label is not trained; None trains all.

    Raises:
        InputError: a token that the vocabulary does not have, a window past the end of its folder.
    """
    tokens = np.stack([folders[folder].read(window) for folder, window in samples])
    limit = recipe.model.model_config.vocab_size
    if tokens.max() >= limit:
        row = int(tokens.max(axis=1).argmax())
        file, window = folders[samples[row][0]].locate(samples[row][1])
        raise InputError(
            f"{file}: token {tokens.max()} in window {window}, expected ids below the "
            f"vocabulary's size ({limit})"
        )
    block = torch.from_numpy(tokens)
    inputs, labels = block[:, :-1].contiguous(), block[:, 1:].contiguous()
    # Positions restart after each end of text, and the label at position 0 is not trained
    # (nanotron's collator).
    mask = torch.ones_like(inputs, dtype=torch.bool) if eos is None else inputs != eos
    return MicroBatch(inputs, labels, mask)
