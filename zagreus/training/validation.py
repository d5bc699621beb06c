"""The loss on held-out tokens, while a training runs.

nanotron knows `tokens.val_check_interval` and `tokens.limit_val_batches`, and never looks at them.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist

from zagreus.errors import InputError
from zagreus.model.llama import Llama
from zagreus.recipe.schema import Recipe
from zagreus.training.batches import read_micro_batch
from zagreus.training.loss import token_losses
from zagreus.training.nanoset import TokenFolder


class Validation:
    """The held-out folders of a recipe. Rank r of R reads the micro batches r, r + R, ...

    Of each.
    """

    def __init__(self, recipe: Recipe, rank: int = 0, ranks: int = 1) -> None:
        """Open the folders.

        Raise `InputError` where one has no window of the recipe's sequence length.
        """
        self.recipe, self.rank, self.ranks = recipe, rank, ranks
        self.folders = [
            TokenFolder(item.folder, recipe.tokens.sequence_length)
            for item in recipe.zagreus.validation
        ]
        self.eos = (
            recipe.model.model_config.eos_token_id if recipe.dataset.return_positions else None
        )
        for folder in self.folders:
            if not len(folder):
                raise InputError(
                    f"{folder.path}: not one window of {folder.width} held-out tokens; "
                    "tokens.val_check_interval: -1 needs none"
                )

    @torch.no_grad()
    def losses(self, model: Llama, device: torch.device) -> dict[str, Any]:
        """Return `heldout_loss`, the mean over the folders by their weights, and `heldout_losses`
        of each: nats a trained label, over the
        first `tokens.limit_val_batches` micro batches of a folder, or (0) over all of it."""
        size, limit = self.recipe.tokens.micro_batch_size, self.recipe.tokens.limit_val_batches
        sums = torch.zeros(len(self.folders), 2, dtype=torch.float64, device=device)
        for index, folder in enumerate(self.folders):
            windows = min(len(folder), limit * size) if limit > 0 else len(folder)
            for start in range(self.rank * size, windows, self.ranks * size):
                samples = [(index, window) for window in range(start, min(start + size, windows))]
                batch = read_micro_batch(self.recipe, self.folders, samples, self.eos)
                inputs, labels, mask = (
                    tensor.to(device) for tensor in (batch.input_ids, batch.labels, batch.mask)
                )
                losses = token_losses(model(inputs).flatten(0, 1), model.head, labels.flatten())
                sums[index, 0] += (losses * mask.flatten()).sum(dtype=torch.float64)
                sums[index, 1] += mask.sum()
        if self.ranks > 1:
            dist.all_reduce(sums)
        means = (sums[:, 0] / sums[:, 1]).tolist()
        weights = [item.weight for item in self.recipe.zagreus.validation]
        mean = sum(weight * loss for weight, loss in zip(weights, means, strict=True)) / sum(
            weights
        )
        return {
            "heldout_loss": mean,
            "heldout_losses": {
                folder.path: loss for folder, loss in zip(self.folders, means, strict=True)
            },
        }
