"""Muon for the layers' matrices, against torch.optim.Muon and torch.optim.AdamW side by side."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from small import Training
from world import together

from zagreus.errors import InputError
from zagreus.model.llama import Llama, initialize
from zagreus.recipe.cost import checkpoint_bytes
from zagreus.recipe.read import read_recipe, recipe_slice
from zagreus.recipe.schema import InitMethod, Muon, Optimizer, Recipe
from zagreus.training.checkpoint import load, read_state
from zagreus.training.distributed import Ranks
from zagreus.training.loop import _Trainer
from zagreus.training.muon import FlatMuon, matrix_rows
from zagreus.training.segment import Segment, shared_among

NO_DECAY = {"weight_decay_exclude_named_params": [".*norm.*", ".*o_proj.*"]}
FACTORY = {
    "name": "muon",
    "adam_eps": 1e-8,
    "adam_beta1": 0.9,
    "adam_beta2": 0.95,
    "torch_adam_is_fused": True,
}

ADAM = {**FACTORY, "name": "adamW"}


def recipe_of(tmp_path: Path, name: str = "m", **sections: dict[str, Any]) -> Recipe:
    """The recipe of a small training with Muon."""
    training = Training(tmp_path / name)
    optimizer = {"optimizer_factory": FACTORY, "weight_decay": 0.1, **sections.pop("optimizer", {})}
    training.write_recipe(
        optimizer=optimizer, checkpoints={"checkpoint_interval": 1000}, **sections
    )
    return read_recipe(training.recipe)


class SideBySide:
    """What a reader of torch's documentation would write, with one tensor for each matrix."""

    def __init__(self, model: Llama, recipe: Optimizer, excluded: tuple[str, ...]) -> None:
        assert isinstance(recipe.optimizer_factory, Muon)
        self.clip, self.parts = recipe.clip_grad, {}
        for name, parameter in model.named_parameters():
            layers = name.startswith("decoder") and parameter.ndim == 2
            rows = matrix_rows(name, len(parameter), model.config) if layers else [len(parameter)]
            self.parts[name] = [
                torch.nn.Parameter(part.detach().clone()) for part in parameter.split(rows)
            ]
        self.optimizers = []
        for excluded_now in (False, True):
            matrices, others = [], []
            for name, parts in self.parts.items():
                if any(word in name for word in excluded) == excluded_now:
                    layers = name.startswith("decoder") and parts[0].ndim == 2
                    (matrices if layers else others).extend(parts)
            decay = 0.0 if excluded_now else recipe.weight_decay
            if matrices:
                self.optimizers.append(
                    torch.optim.Muon(matrices, weight_decay=decay, adjust_lr_fn="match_rms_adamw")
                )
            if others:
                betas = (recipe.optimizer_factory.adam_beta1, recipe.optimizer_factory.adam_beta2)
                self.optimizers.append(
                    torch.optim.AdamW(others, weight_decay=decay, betas=betas, eps=1e-8)
                )

    def step(self, gradients: dict[str, torch.Tensor], rate: float) -> None:
        parameters = [part for parts in self.parts.values() for part in parts]
        for name, parts in self.parts.items():
            rows = [len(part) for part in parts]
            for part, gradient in zip(parts, gradients[name].split(rows), strict=True):
                part.grad = gradient.clone()
        if self.clip is not None:
            torch.nn.utils.clip_grad_norm_(parameters, self.clip)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()


@pytest.mark.parametrize("fewer_passes", [False, True])
@pytest.mark.parametrize("clip", [0.05, None])
@pytest.mark.parametrize("excluded", [(), ("norm", "o_proj")])
def test_as_torchs_own(
    excluded: tuple[str, ...], clip: float | None, fewer_passes: bool, tmp_path: Path
) -> None:
    """Several steps of two micro batches each, with other rates."""
    changes = {"clip_grad": clip, **(NO_DECAY if excluded else {})}
    recipe = recipe_of(tmp_path, optimizer=changes)
    model = Llama(recipe.model.model_config)
    initialize(model, InitMethod(0.2, "NONE"), 1)
    reference = SideBySide(model, recipe.optimizer, excluded)
    optimizer = FlatMuon(model, recipe.optimizer, fewer_passes)
    first = optimizer.weights.clone()
    generator = torch.Generator().manual_seed(0)
    for rate in (0.0, 0.01, 0.02, 0.005):
        for _ in range(2):
            model(torch.randint(0, 200, (2, 16), generator=generator)).square().sum().backward()
        gradients = {
            name: view.clone() for name, view in optimizer.named(optimizer.gradients).items()
        }
        reference.step(gradients, rate)
        optimizer.step(rate)
        assert not optimizer.gradients.any()
        if not rate:
            assert torch.equal(optimizer.weights, first)
    for name, view in optimizer.named(optimizer.weights).items():
        expected = torch.cat([part.detach() for part in reference.parts[name]])
        # Within a bf16 step of an update: Muon's own iteration is in bf16, and clipping rounds.
        assert (view - expected).norm() < 2e-4 * expected.norm(), name
        assert (view - optimizer.named(first)[name]).norm() > 1e-3 * expected.norm(), name


def train(root: Path, last: int, ranks: Ranks) -> list[float]:
    """Train up to a step from the newest save, and save; return the losses."""
    recipe = shared_among(read_recipe(root / "recipe.yaml"), ranks.count)
    trainer = _Trainer(Segment(recipe, last, 0, "data"), ranks)
    trainer.resume()
    records = []
    while trainer.step < last:
        records.append(trainer.train_step(False)[0]["loss"])
    trainer.save()
    trainer.written()
    return records


ONE = Ranks(0, 1, torch.device("cpu"))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_resume_gives_the_same_bytes(dtype: str, tmp_path: Path) -> None:
    recipes = [
        recipe_of(tmp_path, name, model={"dtype": dtype}, optimizer=NO_DECAY)
        for name in ("whole", "cut")
    ]
    losses = train(tmp_path / "whole", 14, ONE)
    assert losses == train(tmp_path / "cut", 6, ONE) + train(tmp_path / "cut", 14, ONE)
    folders = [tmp_path / name / "checkpoints/14" for name in ("whole", "cut")]
    assert read_state(folders[0]).sha256 == read_state(folders[1]).sha256
    weights, state, _ = load(folders[0])
    matrices = {name for name in weights if weights[name].ndim == 2 and "decoder" in name}
    assert {name.split(".", 1)[1] for name in state if name.startswith("momentum.")} == matrices
    adams = {name.split(".", 1)[1] for name in state if name.startswith("exp_avg_sq.")}
    assert adams == set(weights) - matrices
    size = sum(tensor.nbytes for tensor in [*weights.values(), *state.values()])
    assert checkpoint_bytes(recipes[0], recipes[0].model.padded_vocab_size) == size


def test_ranks_and_accumulation(tmp_path: Path) -> None:
    """Two ranks, one, and one with more accumulation end with nearly the same losses."""
    losses = []
    for name, count, micro, accumulation in (("two", 2, 2, 2), ("one", 1, 2, 2), ("more", 1, 1, 4)):
        batch = {"micro_batch_size": micro, "batch_accumulation_per_replica": accumulation}
        recipe_of(tmp_path, name, tokens=batch)
        work = partial(train, tmp_path / name, 10)
        results = together(count, tmp_path / name / "ranks", work)
        assert all(result == results[0] for result in results)
        losses.append(results[0])
    assert losses[0][-1] < losses[0][0] - 0.05
    assert losses[1] == pytest.approx(losses[0], abs=2e-3)
    assert losses[2] == pytest.approx(losses[0], abs=2e-3)


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        ({"zero_stage": 1}, "zero_stage: found 1, expected 0 (optimizer_factory muon needs whole"),
        (
            {"optimizer_factory": {**FACTORY, "name": "moun"}},
            "optimizer_factory.name: found 'moun', expected one of: adamW, muon",
        ),
        (
            {"optimizer_factory": {**FACTORY, "muon_momentum": 1.0}},
            "muon_momentum: found 1.0, expected from 0 to below 1",
        ),
        (
            {"optimizer_factory": {**ADAM, "muon_momentum": 0.9}},
            "optimizer_factory.muon_momentum: unknown key",
        ),
    ],
)
def test_bad_values(optimizer: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        recipe_of(tmp_path, optimizer=optimizer)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_the_choice_is_written_and_read(tmp_path: Path) -> None:
    changed = {**FACTORY, "muon_momentum": 0.9}
    recipe = recipe_of(tmp_path, optimizer={"optimizer_factory": changed})
    assert recipe.optimizer.optimizer_factory == Muon(1e-8, 0.9, 0.95, True, muon_momentum=0.9)
    assert recipe_slice(recipe, 7)["optimizer"]["optimizer_factory"] == changed
    without = recipe_of(tmp_path, "adam", optimizer={"optimizer_factory": ADAM})
    assert recipe_slice(without, 7)["optimizer"]["optimizer_factory"] == ADAM
