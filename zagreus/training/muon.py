"""Muon for the matrices of the layers, AdamW for embedding, head and norms, over flat memory.

Jordan et al., 2024 (https://kellerjordan.github.io/posts/muon/), with the scale of Liu et al., 2025
(arXiv 2502.16982): an update has the size of AdamW's, so that both take one learning rate and one
weight decay.
"""

from __future__ import annotations

import torch
from torch import Tensor

from zagreus.model.llama import Llama
from zagreus.recipe.schema import LlamaConfig, Muon, Optimizer
from zagreus.training.optimizer import FlatAdamW
from zagreus.training.sharding import Sharding


class FlatMuon(FlatAdamW):
    """`FlatAdamW`, whose last parameters in the flat memory are the layers' matrices.

    torch.optim.Muon updates these, each matrix by itself: queries, keys and values lie in one
    parameter and are three matrices, gate and values of the MLP are two. Their momentum is all of
    their state.
    """

    def __init__(self, model: Llama, recipe: Optimizer, fewer_passes: bool | None = None) -> None:
        """Move the model's parameters into flat memory and make the optimizer; see `FlatAdamW`."""
        super().__init__(model, recipe, fewer_passes=fewer_passes)
        assert isinstance(self.factory, Muon)
        names: dict[float, list[str]] = {}
        for item in self.ranges:
            if item.start >= self.adam_end:
                names.setdefault(item.weight_decay, []).extend(
                    name
                    for name, (start, end, _) in self.slices.items()
                    if item.start <= start and end <= item.end
                )
        self._muon = {
            decay: self._optimizer(members, model.config, decay, self.factory.muon_momentum)
            for decay, members in names.items()
        }

    def has_own_rule(self, name: str) -> bool:
        return name.startswith("decoder.") and "layernorm" not in name

    def zero_moments(self, dtype: torch.dtype) -> dict[str, Tensor]:
        sizes = {
            "exp_avg": self.adam_end,
            "exp_avg_sq": self.adam_end,
            "momentum": self.weights.numel() - self.adam_end,
        }
        return {
            key: torch.zeros(size, dtype=dtype, device=self.weights.device)
            for key, size in sizes.items()
        }

    def part(self, key: str) -> tuple[int, list[str]]:
        if key == "momentum":
            return self.adam_end, [name for name in self.slices if self.has_own_rule(name)]
        if key in ("exp_avg", "exp_avg_sq"):
            return 0, [name for name in self.slices if not self.has_own_rule(name)]
        return super().part(key)

    def _optimizer(
        self, names: list[str], config: LlamaConfig, decay: float, momentum: float
    ) -> torch.optim.Muon:
        """Return torch's optimizer of some parameters, whose weights, gradients and state are views
        of the flat memory.
        """
        weights, gradients, momenta = (
            self.named(self.master),
            self.named(self.gradients),
            self.named(self.moments["momentum"], "momentum"),
        )
        matrices, state = [], []
        for name in names:
            rows = matrix_rows(name, weights[name].shape[0], config)
            parts = (flat[name].split(rows) for flat in (weights, gradients, momenta))
            for weight, gradient, buffer in zip(*parts, strict=True):
                weight.grad = gradient
                matrices.append(weight)
                state.append(buffer)
        optimizer = torch.optim.Muon(
            matrices, weight_decay=decay, momentum=momentum, adjust_lr_fn="match_rms_adamw"
        )
        for matrix, buffer in zip(matrices, state, strict=True):
            optimizer.state[matrix]["momentum_buffer"] = buffer
        return optimizer

    def _update(self, rate: float, decay: float, scale: Tensor | None) -> None:
        super()._update(rate, decay, scale)
        if decay not in self._muon:
            return
        (group,) = self._muon[decay].param_groups
        group["lr"] = rate
        if scale is not None:  # AdamW's kernel divides on the way
            for matrix in group["params"]:
                matrix.grad.div_(scale)
        self._muon[decay].step()


def matrix_rows(name: str, rows: int, config: LlamaConfig) -> list[int]:
    """Return the rows of each matrix that lies in a parameter of a layer with so many rows."""
    if name.endswith("qkv_proj.weight"):
        keys = config.key_value_heads * config.head_size
        return [rows - 2 * keys, keys, keys]
    if name.endswith("gate_up_proj.weight"):
        return [rows // 2, rows // 2]
    return [rows]


def make_optimizer(model: Llama, recipe: Optimizer, sharding: Sharding | None) -> FlatAdamW:
    """Return the optimizer that a recipe names; `sharding` spreads AdamW's state over ranks."""
    if isinstance(recipe.optimizer_factory, Muon):
        return FlatMuon(model, recipe)
    return FlatAdamW(model, recipe, sharding)
