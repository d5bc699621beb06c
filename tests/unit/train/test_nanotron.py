"""Against nanotron's own values.

Data order, learning rate, losses, gradient norms, weights, logits.
"""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from vectors import VECTORS, needs_vectors

from zagreus.model.llama import Llama
from zagreus.model.nanotron import nanotron_name
from zagreus.recipe.read import resolved
from zagreus.recipe.schema import Recipe, Scheduler
from zagreus.recipe.strict import build
from zagreus.training.batches import Batches
from zagreus.training.blend import Blend
from zagreus.training.loop import Ranks, _Trainer
from zagreus.training.schedule import learning_rate
from zagreus.training.segment import Segment

pytestmark = needs_vectors


@pytest.fixture(autouse=True)
def one_thread():
    """As a rank trains: attention by hand is for one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def recipe_of(run: str, tmp_path) -> Recipe:
    """The recipe of a reference run, with folders that can be found from here and checkpoints out
    of the way.
    """
    # Not through read_recipe: r5 is tensor parallel, which this trainer refuses to train and can
    # import.
    recipe = build(Recipe, yaml.safe_load((VECTORS / f"{run}.yaml").read_text()), run)
    stage = recipe.data_stages[0]
    dataset = replace(
        stage.data.dataset,
        dataset_folder=[str(VECTORS / folder) for folder in stage.data.dataset.folders],
    )
    return replace(
        recipe,
        data_stages=[replace(stage, data=replace(stage.data, dataset=dataset))],
        checkpoints=replace(recipe.checkpoints, checkpoints_path=str(tmp_path)),
    )


@pytest.mark.parametrize("name", ["equal10", "w532", "w7"])
def test_blend_is_nanotrons(name: str) -> None:
    vectors = np.load(VECTORS / "data_order_vectors.npz")
    folders, windows = vectors[f"blend_{name}_dataset_index"], vectors[f"blend_{name}_sample_index"]
    blend = Blend(vectors[f"blend_{name}_weights"])
    assert [blend.next() for _ in folders] == list(
        zip(folders.tolist(), windows.tolist(), strict=True)
    )


def test_blend_goes_on_from_its_state() -> None:
    blend = Blend([0.05, 0.31, 0.64])
    whole = [blend.next() for _ in range(500)]
    first = Blend([0.05, 0.31, 0.64])
    start = [first.next() for _ in range(123)]
    second = Blend([0.05, 0.31, 0.64], first.drawn)
    assert start + [second.next() for _ in range(377)] == whole


@pytest.mark.parametrize("run, ranks", [("r1", 1), ("r2", 2), ("r5", 1)])
def test_batches_are_nanotrons(run: str, ranks: int, tmp_path) -> None:
    recipe = recipe_of(run, tmp_path)
    for rank in range(ranks):
        batches = Batches(recipe, 0, None, rank, ranks)
        lines = [
            json.loads(line)
            for line in (VECTORS / f"{run}.data.rank{rank}.jsonl").read_text().splitlines()
        ]
        ours = [batch for _ in range(recipe.tokens.train_steps) for batch in batches.next()]
        assert len(ours) == len(lines)
        for batch, line in zip(ours, lines, strict=True):
            assert batch.input_ids.tolist() == line["input_ids"]
            assert batch.labels.tolist() == line["label_ids"]
            assert batch.mask.int().tolist() == np.array(line["label_mask"]).astype(int).tolist()
        assert any(not all(map(all, line["label_mask"])) for line in lines), (
            "the reference masks some label"
        )


def test_learning_rate_is_nanotrons_to_the_last_digit() -> None:
    vectors = json.loads((VECTORS / "lr_vectors.json").read_text())
    count = 0
    for name, vector in vectors.items():
        if name.startswith("nanotron_get_flops"):
            continue
        schedule = resolved(Scheduler(**vector["args"]), vector["train_steps"])
        for done, expected in vector["lr_at_0based_step"].items():
            assert learning_rate(int(done) + 1, schedule) == expected, (name, done)
            count += 1
    assert count > 100


@pytest.mark.parametrize("run, tolerance, relative", [("r1", 1e-6, 1e-5), ("r2", 1e-3, 2e-2)])
def test_training_follows_nanotron(run: str, tolerance: float, relative: float, tmp_path) -> None:
    """From nanotron's first weights.

    Its loss and gradient norm at every step, and for fp32 its weights at the end.

    r2 ran on two ranks; one rank sees the same micro batches and sums them in another order.
    """
    recipe = recipe_of(run, tmp_path)
    trainer = _Trainer(Segment(recipe, 20, 0, ""), Ranks(0, 1, torch.device("cpu")))
    first = load_file(VECTORS / f"{run}_init.safetensors")
    for name, view in trainer.optimizer.named(trainer.optimizer.weights).items():
        view.copy_(first[nanotron_name(name)])
    trainer.optimizer.master.copy_(trainer.optimizer.weights)
    trainer.resume()
    for line in map(json.loads, (VECTORS / f"{run}.jsonl").read_text().splitlines()):
        record, _ = trainer.train_step(stop=False)
        assert record["step"] == line["step"]
        assert record["learning_rate"] == line["lr_used"]
        assert record["tokens"] == line["consumed_tokens"]
        assert record["loss"] == pytest.approx(line["loss"], abs=tolerance), line["step"]
        assert record["grad_norm"] == pytest.approx(line["grad_norm"], rel=relative), line["step"]
    if run == "r1":
        weights = trainer.optimizer.named(trainer.optimizer.weights)
        last = (
            VECTORS
            / "r1_ckpt/20/model"
            / "model/decoder/1/pp_block/attn/qkv_proj"
            / "model_weight_pp-rank-0-of-1_tp-rank-0-of-1.safetensors"
        )
        torch.testing.assert_close(
            weights["decoder.1.attn.qkv_proj.weight"], load_file(last)["data"], atol=5e-6, rtol=1e-4
        )


def test_logits_are_nanotrons(tmp_path) -> None:
    recipe = recipe_of("r1", tmp_path)
    model = Llama(recipe.model.model_config)
    root = VECTORS / "r1_ckpt/10/model"
    for name, parameter in model.named_parameters():
        folder = root / nanotron_name(name).removesuffix(".weight").replace(".", "/")
        (file,) = folder.glob("model_weight*.safetensors")
        parameter.data = load_file(file)["data"]
    vectors = np.load(VECTORS / "r1_10.logits.npz")
    with torch.no_grad():
        logits = model.logits(torch.from_numpy(vectors["input_ids"]))
    assert np.abs(logits.numpy() - vectors["nanotron_logits_float32"]).max() < 1e-5
