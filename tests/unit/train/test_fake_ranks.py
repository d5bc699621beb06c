"""64 ranks in one process, by torch's fake process group.

Which sums are sent when, how many calls a step makes, which windows a rank reads.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from small import Training
from torch.testing._internal.distributed.fake_pg import FakeStore

from zagreus.recipe.read import read_recipe
from zagreus.training import loop
from zagreus.training.batches import Batches
from zagreus.training.checkpoint import State
from zagreus.training.distributed import Ranks
from zagreus.training.loop import _Trainer
from zagreus.training.resume import Saved
from zagreus.training.segment import Segment, shared_among
from zagreus.training.sharding import ALIGNMENT, Sharding

WORLD = 64
CALLS = (
    "all_reduce",
    "reduce_scatter_tensor",
    "all_gather_into_tensor",
    "broadcast",
    "broadcast_object_list",
    "barrier",
)


@pytest.fixture(params=[0, 37, 63])
def rank(request) -> Iterator[int]:
    dist.init_process_group("fake", rank=request.param, world_size=WORLD, store=FakeStore())
    yield request.param
    dist.destroy_process_group()


def training(root: Path, zero_stage: int = 0) -> Training:
    """A training whose batch 64 ranks can share, two micro batches each."""
    made = Training(root)
    tokens = {"micro_batch_size": 2, "batch_accumulation_per_replica": WORLD, "train_steps": 60}
    made.write_recipe(
        tokens=tokens,
        optimizer={"zero_stage": zero_stage},
        zagreus={"end_of_data": "epochs"},
        model={"dtype": "bfloat16"},
    )
    return made


def watched(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Return a list that fills with the collectives that are called, and the elements that each
    sends.
    """
    calls: list[tuple[str, int]] = []
    for name in CALLS:
        original = getattr(dist, name)

        def call(*tensors, original=original, name=name, **options):
            sent = (
                tensors[1] if name == "reduce_scatter_tensor" else tensors[0] if tensors else None
            )
            calls.append((name, sent.numel() if isinstance(sent, torch.Tensor) else 0))
            return original(*tensors, **options)

        monkeypatch.setattr(dist, name, call)
    return calls


@pytest.mark.parametrize("mode", ["whole", "zero", "scattered"])
def test_a_step_makes_the_calls_of_the_formula(
    mode: str, rank: int, tmp_path: Path, monkeypatch
) -> None:
    if mode == "scattered":
        monkeypatch.setattr(
            loop, "Sharding", lambda r, count, _, __: Sharding(r, count, True, 4096)
        )
    recipe = shared_among(read_recipe(training(tmp_path, int(mode != "whole")).recipe), WORLD)
    # Nothing travels between fake ranks, so that others than rank 0 would not hear that there is no
    # save.
    monkeypatch.setattr(loop, "find_save", lambda *_: Saved(0, State(0, "", "data", [], 0, {}), []))
    trainer = _Trainer(Segment(recipe, 5, 0, "data"), Ranks(rank, WORLD, torch.device("cpu")))
    trainer.watch.notes = None  # a fake group does not number its collectives
    trainer.resume()
    calls = watched(monkeypatch)
    record, _ = trainer.train_step(False)
    sums = "reduce_scatter_tensor" if mode == "scattered" else "all_reduce"
    assert trainer.gradient_sum is not None
    buckets = [end - start for start, end in trainer.gradient_sum.bounds]
    expected = [
        (sums, size) for size in buckets
    ]  # in the last backward, from the end of the memory to its start
    expected.append(("all_reduce", 2))  # loss and whether to stop
    if mode == "scattered":
        expected.append(("all_reduce", 1))  # the gradients' norm
        expected += [
            ("all_gather_into_tensor", unit.end - unit.start) for unit in trainer.optimizer.units
        ]
    if mode == "zero":
        (unit,) = trainer.optimizer.units
        owners = -(-(unit.end - unit.start) // unit.width)
        expected += [
            ("broadcast", min(unit.width, unit.end - owner * unit.width)) for owner in range(owners)
        ]
    assert calls == expected
    assert record["sums_in_backward"] == len(buckets) > 2
    size = trainer.optimizer.weights.numel()
    assert (
        sum(buckets) == size
        if mode != "scattered"
        else size <= sum(buckets) < size + ALIGNMENT * WORLD
    )
    if mode != "whole":
        assert trainer.optimizer.moments["exp_avg"].numel() <= size / WORLD + ALIGNMENT * (
            1 + len(trainer.optimizer.units)
        )
    calls.clear()
    monkeypatch.setattr(trainer.writer, "save", lambda *_, **__: None)
    trainer.save()
    assert calls[0] == ("all_reduce", 2)  # the weights' checksum
    if mode == "whole":
        assert calls == [("all_reduce", 2)]


def test_each_rank_reads_its_windows(tmp_path: Path) -> None:
    """Rank r has the samples [(r + k * 64) * 2, + 2) of a step.

    Together the ranks have each sample once, in one rank's order.
    """
    recipe = read_recipe(training(tmp_path).recipe)
    whole = Batches(shared_among(recipe, 1))
    ranks = [Batches(shared_among(recipe, WORLD), 0, None, rank, WORLD) for rank in range(WORLD)]
    for _ in range(2):
        expected = [batch.input_ids for batch in whole.next()]
        assert len(expected) == 2 * WORLD
        for number, rank in enumerate(ranks):
            windows = [batch.input_ids for batch in rank.next()]
            assert len(windows) == 2
            assert all(torch.equal(windows[k], expected[number + k * WORLD]) for k in range(2))
            assert rank.drawn == whole.drawn and rank.order == whole.order


def test_the_published_batch_on_64_ranks() -> None:
    """Four sequences a rank and nothing to accumulate.

    Rank 37 has samples 148 to 151 of each step.
    """
    recipe = shared_among(read_recipe("recipes/pretrain/zagreus.yaml"), WORLD)
    assert (
        recipe.tokens.batch_accumulation_per_replica
        * recipe.tokens.micro_batch_size
        * recipe.parallelism.dp
        == 256
    )
    size = recipe.tokens.micro_batch_size
    assert list(range(37 * size, recipe.global_batch_size, WORLD * size)) == [148]
    assert replace(recipe).global_batch_size == 256
