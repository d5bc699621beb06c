"""ZeRO-1 over flat memory.

The same bits as without, checkpoints alike, any number of ranks goes on. And weights that differ.
"""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from small import Training
from world import together

from zagreus.errors import InputError
from zagreus.recipe.read import fingerprint, read_recipe, recipe_slice
from zagreus.training import loop
from zagreus.training.agreement import check_agreement, checksum
from zagreus.training.checkpoint import load, read_state
from zagreus.training.distributed import Ranks
from zagreus.training.loop import _Trainer
from zagreus.training.segment import Segment, shared_among
from zagreus.training.sharding import ALIGNMENT, Sharding, Unit, bucket_units, group_units

STEPS = 5
NO_DECAY = {"weight_decay_exclude_named_params": [".*norm.*"]}


def train(root: Path, last: int, scatter: bool, ranks: Ranks) -> dict[str, Any]:
    """Train on a rank up to a step, from the newest checkpoint, and save.

    Return losses, norms and what the rank holds.
    """
    if scatter:  # as on CUDA
        loop.Sharding = lambda rank, count, _, __: Sharding(rank, count, True, 4096)  # type: ignore[misc, assignment]
    trainer = _Trainer(
        Segment(shared_among(read_recipe(root / "recipe.yaml"), ranks.count), last, 0, "data"),
        ranks,
    )
    trainer.resume()
    records = []
    while trainer.step < last:
        record, _ = trainer.train_step(False)
        records.append((record["loss"], record["grad_norm"]))
    trainer.save()
    trainer.written()
    sums = trainer.gradient_sum.bounds if trainer.gradient_sum else []
    return {
        "records": records,
        "state": sum(flat.numel() for flat in trainer.optimizer.moments.values()),
        "sums": sums,
    }


def run(
    tmp_path: Path,
    name: str,
    count: int,
    sections: dict[str, Any],
    last: int = STEPS,
    scatter: bool = False,
) -> list[dict[str, Any]]:
    """Write a recipe for a training by its name, where there is none, and train it on `count`
    ranks.
    """
    root = tmp_path / name
    training = Training(root)
    batch = {"batch_accumulation_per_replica": 8, "train_steps": 60}
    training.write_recipe(
        **{"checkpoints": {"checkpoint_interval": 1000}, "tokens": batch, **sections}
    )
    return together(count, root / f"ranks{last}", partial(train, root, last, scatter))


def files(tmp_path: Path, name: str, step: int = STEPS) -> dict[str, str]:
    """The hashes of a checkpoint's tensors."""
    return read_state(tmp_path / name / "checkpoints" / str(step)).sha256


@pytest.mark.parametrize(
    ("count", "dtype", "optimizer"),
    [
        (2, "bfloat16", NO_DECAY),
        (4, "float32", {}),
        (4, "bfloat16", {}),
        (4, "float32", NO_DECAY | {"clip_grad": None}),
    ],
)
def test_the_same_bits_as_without(
    count: int, dtype: str, optimizer: dict[str, Any], tmp_path: Path
) -> None:
    whole, sharded = (
        run(
            tmp_path,
            f"zero{stage}",
            count,
            {"model": {"dtype": dtype}, "optimizer": {**optimizer, "zero_stage": stage}},
        )
        for stage in (0, 1)
    )
    assert [result["records"] for result in sharded] == [result["records"] for result in whole]
    assert files(tmp_path, "zero1") == files(tmp_path, "zero0")
    # The state is spread: each rank has its part, and all parts are the whole.
    assert sum(result["state"] for result in sharded) == whole[0]["state"]
    assert (
        max(result["state"] for result in sharded) < whole[0]["state"] / count + 2 * 2 * ALIGNMENT
    )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_scattered_sums_agree(dtype: str, tmp_path: Path) -> None:
    """As on CUDA: a rank has the sums of its own slices alone.

    The norm and the clipping are those of all.
    """
    sections = {"model": {"dtype": dtype}, "optimizer": {**NO_DECAY, "clip_grad": 0.5}}
    whole = run(tmp_path, "whole", 4, sections)
    sharded = run(
        tmp_path,
        "scattered",
        4,
        {**sections, "optimizer": {**sections["optimizer"], "zero_stage": 1}},
        scatter=True,
    )
    assert len(sharded[0]["sums"]) > 4
    for ours, other in zip(sharded[0]["records"], whole[0]["records"], strict=True):
        assert ours == pytest.approx(other, rel=1e-5)
    assert all(result["records"] == sharded[0]["records"] for result in sharded)
    for first, second in zip(
        load(tmp_path / f"scattered/checkpoints/{STEPS}")[:2],
        load(tmp_path / f"whole/checkpoints/{STEPS}")[:2],
        strict=True,
    ):
        assert first.keys() == second.keys()
        for name, tensor in first.items():
            torch.testing.assert_close(
                tensor, second[name], atol=1e-2 if dtype == "bfloat16" else 1e-5, rtol=1e-3
            )


def test_any_number_of_ranks_goes_on(tmp_path: Path) -> None:
    """4 ranks with ZeRO-1, then 2 with, then 1 and again 4 without.

    What each saves at once is what it read.
    """
    sections = {"model": {"dtype": "bfloat16"}}
    run(tmp_path, "m", 4, {**sections, "optimizer": {"zero_stage": 1}})
    first = files(tmp_path, "m")
    for count, stage in ((2, 1), (1, 1), (4, 0), (4, 1)):
        for saved in (tmp_path / "m/ranks5").iterdir():
            saved.unlink()
        run(tmp_path, "m", count, {**sections, "optimizer": {"zero_stage": stage}})
        assert files(tmp_path, "m") == first
    run(tmp_path, "m", 2, {**sections, "optimizer": {"zero_stage": 1}}, last=STEPS + 3)
    run(tmp_path, "n", 4, {**sections, "optimizer": {"zero_stage": 1}})
    run(tmp_path, "n", 2, sections, last=STEPS + 3)
    assert files(tmp_path, "m", STEPS + 3) == files(tmp_path, "n", STEPS + 3)


def refused(root: Path, ranks: Ranks) -> str:
    """Go on from a checkpoint of another recipe; return what ended the rank."""
    trainer = _Trainer(Segment(read_recipe(root / "recipe.yaml"), STEPS + 3, 0, "data"), ranks)
    try:
        trainer.resume()
    except InputError as error:
        return str(error)
    except SystemExit as end:
        return f"exit {end.code}"
    return "went on"


def test_what_rank_0_cannot_read_ends_all_ranks_and_is_said_once(tmp_path: Path) -> None:
    run(tmp_path, "m", 2, {})
    training = Training(tmp_path / "m")
    training.write_recipe(general={"seed": 99}, tokens={"batch_accumulation_per_replica": 8})
    said = together(2, tmp_path / "again", partial(refused, tmp_path / "m"))
    assert said == [
        f"{tmp_path / 'm/checkpoints/5'}: a checkpoint of another recipe; remove it to train "
        "without it",
        "exit 2",
    ]


def test_zero_and_recomputation_are_circumstances(tmp_path: Path) -> None:
    """The fingerprints are those of recipes before there was either."""
    recipes = []
    for stage, recompute, compiled in ((0, False, None), (1, True, True), (0, False, False)):
        training = Training(tmp_path / f"{stage}{compiled}")
        sections = {
            "optimizer": {"zero_stage": stage},
            "parallelism": {"recompute_layer": recompute},
            "zagreus": {"compile": compiled},
        }
        training.write_recipe(**sections)
        sliced = recipe_slice(read_recipe(training.recipe), 7)
        recipes.append({**sliced, "data": [], "optimizer": {**sliced["optimizer"]}})
    assert recipes[0] == recipes[1] == recipes[2]
    assert {"compile": False}.items() <= recipes[0].items() and recipes[0]["optimizer"][
        "zero_stage"
    ] == 0


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        ("zagreus", "400a2b47caedb6bb"),
        ("small", "45dd3719c87348a6"),
        ("demo", "7c54b42e177bbcd0"),
        ("test", "e4c840b1ac8df91a"),
    ],
)
def test_fingerprints_are_those_of_earlier_versions(recipe: str, expected: str) -> None:
    """Step 7 of each, by trainer 3 when `compile` and `zero_stage` were part of them."""
    assert fingerprint(recipe_slice(read_recipe(f"recipes/pretrain/{recipe}.yaml"), 7)) == expected


@pytest.mark.parametrize("count", [1, 2, 3, 4, 64])
@pytest.mark.parametrize("size", [1, 63, 64, 1000, 12345])
def test_slices_cover_a_unit_once(count: int, size: int) -> None:
    unit = Unit(100, 100 + size, count)
    slices = [unit.slice_of(rank) for rank in range(count)]
    assert slices[0][0] == 100 and slices[-1][1] == 100 + size
    assert all(end == start for (_, end), (start, _) in zip(slices, slices[1:], strict=False))
    assert all((start - 100) % ALIGNMENT == 0 or start == 100 + size for start, _ in slices)


@pytest.mark.parametrize("count", [2, 3, 8, 64])
@pytest.mark.parametrize(
    ("size", "embedding"), [(10, 4), (5000, 4000), (200_000, 70_000), (200_000, 199_999)]
)
def test_buckets_have_even_slices_and_begin_after_the_embedding(
    count: int, size: int, embedding: int
) -> None:
    units = bucket_units(size, embedding, size // 4, count)
    assert all(unit.even for unit in units)
    assert units[0].start == 0 and size <= units[-1].end < size + ALIGNMENT * count
    assert all(unit.end == after.start for unit, after in zip(units, units[1:], strict=False))
    assert embedding <= units[0].end < embedding + ALIGNMENT * count


def test_units_of_groups_are_their_ranges() -> None:
    assert [(unit.start, unit.end) for unit in group_units([(0, 10), (10, 15)], 4)] == [
        (0, 10),
        (10, 15),
    ]


def plant(count: int, odd: list[int], ranks: Ranks) -> str:
    """Have some ranks hold one weight whose last bit differs."""
    weights = torch.randn(1000, generator=torch.Generator().manual_seed(1)).to(torch.bfloat16)
    check_agreement(weights, ranks, 8)
    if ranks.rank in odd:
        weights.view(torch.int16)[77] ^= 1
    try:
        check_agreement(weights, ranks, 9)
    except InputError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("count", "odd", "expected"),
    [
        (
            4,
            [2],
            "step 9: rank 2 on HOST holds other weights than the other 3 ranks; no checkpoint was "
            "written",
        ),
        (
            5,
            [0, 3],
            "step 9: rank 0 on HOST and rank 3 on HOST hold other weights than the other 3 ranks",
        ),
        (2, [1], "step 9: weights differ between ranks: rank 0 on HOST has "),
        (3, [], ""),
    ],
)
def test_a_rank_with_other_weights_is_named(
    count: int, odd: list[int], expected: str, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setenv("SLURMD_NODENAME", "a100-05")
    said = together(count, tmp_path, partial(plant, count, odd))
    assert all(
        line.startswith(expected.replace("HOST", "a100-05")) and bool(line) == bool(expected)
        for line in said
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_any_bit_changes_the_checksum(dtype: torch.dtype) -> None:
    weights = torch.randn(100).to(dtype)
    bits = weights.view(torch.int32 if dtype == torch.float32 else torch.int16)
    before = int(checksum(weights))
    for bit in range(8 * dtype.itemsize - 1):
        bits[5] ^= 1 << bit
        assert int(checksum(weights)) != before
        bits[5] ^= 1 << bit
    assert int(checksum(weights)) == before
