"""The trainer's step as its own loop makes it, at a shape that is given: what the sections time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch

from zagreus.model.llama import Llama, initialize
from zagreus.recipe.read import read_recipe
from zagreus.recipe.schema import Recipe
from zagreus.training.compilation import compile_layers, compiled_loss, missing_for_compilation
from zagreus.training.loss import linear_cross_entropy
from zagreus.training.optimizer import FlatAdamW

RECIPE = "recipes/pretrain/zagreus.yaml"


@dataclass(frozen=True)
class Shape:
    """A model and a batch."""

    hidden: int
    layers: int
    heads: int
    pairs: int
    inner: int
    vocabulary: int
    sequence: int


PUBLISHED = Shape(960, 32, 15, 5, 2560, 128256, 4096)
TINY = Shape(48, 2, 3, 1, 96, 512, 64)


def recipe_of(shape: Shape) -> Recipe:
    """Return the published recipe with a shape."""
    recipe = read_recipe(RECIPE)
    sizes: dict[str, Any] = {
        "hidden_size": shape.hidden,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
    }
    sizes |= {
        "num_key_value_heads": shape.pairs,
        "intermediate_size": shape.inner,
        "vocab_size": shape.vocabulary,
    }
    return replace(
        recipe,
        model=replace(recipe.model, model_config=replace(recipe.model.model_config, **sizes)),
    )


def compiler_missing(device: str) -> str | None:
    """Return what a compiled variant lacks here; None where nothing is missing."""
    # The rehearsal compiles to torch's own operators.
    return None if device == "cpu" else missing_for_compilation(device)


def backend(device: str) -> str:
    """Return the compiler: inductor, and for the rehearsal the one that needs no C compiler."""
    return "inductor" if device == "cuda" else "aot_eager"


class Engine:
    """Model and optimizer; `step` makes one optimizer step of one micro batch."""

    def __init__(
        self,
        shape: Shape,
        device: str,
        dtype: torch.dtype,
        compiled: bool = False,
        fused: bool = False,
    ) -> None:
        """Make both from the seed 0."""
        recipe = recipe_of(shape)
        model = Llama(recipe.model.model_config, shape.vocabulary, "torch")
        initialize(model, recipe.model.init_method, 0)
        self.model = model.to(device, dtype)
        self.optimizer = FlatAdamW(self.model, recipe.optimizer)
        self.further: dict[str, Callable[..., Any]] = {}
        if compiled:
            compile_layers(self.model, backend(device))
        if fused:
            self.further["gradient_of"] = compiled_loss(backend(device))
        self.device = device

    def loss(self, ids: torch.Tensor) -> torch.Tensor:
        """Return the mean loss of rows [B, S + 1]; its gradients are made."""
        hidden = self.model(ids[:, :-1].contiguous()).flatten(0, 1)
        weights = torch.full((len(hidden),), 1 / len(hidden), device=ids.device)
        loss = linear_cross_entropy(
            hidden, self.model.head, ids[:, 1:].flatten(), weights, **self.further
        )
        loss.backward()
        return loss.detach()

    def step(self, ids: torch.Tensor, rate: float = 1e-4) -> torch.Tensor:
        """Make one optimizer step; return the loss, unread."""
        loss = self.loss(ids)
        self.optimizer.step(rate)
        return loss


def batch(shape: Shape, rows: int, device: str, seed: int = 0) -> torch.Tensor:
    """Return rows of random tokens, the same on every device."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, shape.vocabulary, (rows, shape.sequence + 1), generator=generator).to(
        device
    )
