"""Rendering: what the config says of a model, in nanotron's schema, and what it cannot say."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from small import environment, shard, text
from test_convert import tokenizer_folder

from zagreus.recipe.read import read_recipe, recipe_slice
from zagreus.training.schedule import learning_rate


@pytest.fixture
def root(tmp_path: Path) -> Path:
    tokenizer_folder(tmp_path / "tokenizer")
    for source in ("eng", "ita"):
        shard(tmp_path / "tokens" / source, "00000", text(1, 400_000))
    return tmp_path


MIXTURE = {"eng": 0.25, "ita": 0.75}


def render(
    root: Path,
    step: int = 100,
    mixture: dict = MIXTURE,
    recipe: str = "recipes/pretrain/demo.yaml",
    seed: tuple[str, ...] = (),
) -> subprocess.CompletedProcess[str]:
    command = [
        *(
            sys.executable,
            "-P",
            "scripts/render_recipe.py",
            "--recipe",
            recipe,
            "--model",
            "m",
            "--step",
            str(step),
            *seed,
        ),
        *("--mixture", json.dumps(mixture)),
        *("--tokenizer", str(root / "tokenizer/manifest.json"), "--tokens", str(root / "tokens")),
        *("--checkpoints", str(root / "checkpoints"), "--output", str(root / "recipe.yaml")),
    ]
    return subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=60)


def test_a_whole_recipe(root: Path) -> None:
    assert render(root, seed=("--seed", "77")).returncode == 0
    recipe, source = read_recipe(root / "recipe.yaml"), read_recipe("recipes/pretrain/demo.yaml")
    assert recipe.dataset.folders == [
        str(root / "tokens/eng"),
        str(root / "tokens/ita"),
    ] and recipe.dataset.weights() == [0.25, 0.75]
    config = recipe.model.model_config
    assert (config.vocab_size, config.bos_token_id, config.eos_token_id) == (200, 1, 2)
    assert (
        recipe.general.seed == 77 and recipe.general.run == "m" and recipe.tokens.train_steps == 100
    )
    assert recipe.checkpoints.checkpoints_path == str(root / "checkpoints")
    assert recipe.tokenizer.tokenizer_name_or_path == str(root / "tokenizer")
    for step in (1, 15, 60, 100):
        schedules = (item.optimizer.learning_rate_scheduler for item in (recipe, source))
        assert len({learning_rate(step, schedule) for schedule in schedules}) == 1


@pytest.mark.parametrize(
    ("step", "mixture", "message"),
    [
        (100, {"eng": 0.25, "ita": 0.5}, "mixture: the weights sum to 0.75, expected 1"),
        (100, {"eng": 0.5, "deu": 0.5}, "tokens/deu: no token shard"),
        (0, MIXTURE, "checkpoints: found 0, expected a step of at least 1"),
        (241, MIXTURE, "checkpoints: found 241, beyond the recipe's tokens.train_steps (240)"),
        (240, MIXTURE, "tokens/ita: too few tokens for 240 steps"),
    ],
)
def test_refusals_are_one_line(root: Path, step: int, mixture: dict, message: str) -> None:
    done = render(root, step, mixture)
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("error: ") and message in line
    assert not (root / "recipe.yaml").exists()


def test_recipes_of_two_checkpoints_agree_on_what_they_share(root: Path) -> None:
    slices = []
    for step in (60, 100):
        assert render(root, step).returncode == 0
        slices.append(recipe_slice(read_recipe(root / "recipe.yaml"), 60))
    assert slices[0] == slices[1]


def test_a_vocabulary_that_does_not_fit(root: Path) -> None:
    done = render(root, recipe="recipes/pretrain/zagreus.yaml")
    assert done.returncode == 2
    assert "model.model_config.vocab_size: found 128256, expected 200" in done.stderr
