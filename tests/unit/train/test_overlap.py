"""What runs beside the training.

The sum of gradients over the ranks, reading ahead, writing checkpoints.
"""

import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from small import Training

from zagreus.errors import InputError
from zagreus.recipe.read import read_recipe
from zagreus.training import checkpoint
from zagreus.training.batches import Batches
from zagreus.training.checkpoint import State
from zagreus.training.loop import Ranks, _Trainer
from zagreus.training.prefetch import Prefetch
from zagreus.training.reduction import GradientSum
from zagreus.training.segment import Segment
from zagreus.training.writer import CheckpointWriter


@pytest.fixture
def alone(tmp_path: Path):
    """A group of one rank."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_gradients_are_sent_during_the_last_backward_and_not_before(
    dtype: str, alone, tmp_path: Path, monkeypatch
) -> None:
    training = Training(tmp_path)
    training.write_recipe(model={"dtype": dtype}, tokens={"batch_accumulation_per_replica": 3})
    trainer = _Trainer(
        Segment(read_recipe(training.recipe), 5, 0, ""), Ranks(0, 1, torch.device("cpu"))
    )
    trainer.gradient_sum = GradientSum(trainer.model, trainer.optimizer, 4096)
    trainer.resume()
    events: list[tuple[str, object]] = []
    backward, reduce = trainer._backward, dist.all_reduce
    monkeypatch.setattr(
        trainer,
        "_backward",
        lambda batch: (backward(batch), events.append(("backward ended", None)))[0],
    )

    def watched(tensor, async_op=False):
        if async_op:
            events.append(("sent", (tensor.data_ptr(), tensor.numel() * tensor.element_size())))
        return reduce(tensor, async_op=async_op)

    monkeypatch.setattr(dist, "all_reduce", watched)
    for name, parameter in trainer.model.named_parameters():
        parameter.register_post_accumulate_grad_hook(
            lambda _, name=name: events.append(("finished", name))
        )
    record, _ = trainer.train_step(False)
    names = [event for event, _ in events]
    last = [index for index, name in enumerate(names) if name == "backward ended"][
        -2
    ]  # the end of the last but one
    assert "sent" not in names[:last]
    sent = [what for event, what in events if event == "sent"]
    assert len(sent) == len(trainer.gradient_sum.buckets) >= 4
    # All of the gradients, each once, from the end of the memory on.
    flat, ends = trainer.optimizer.gradients, [start + size for start, size in sent]
    assert (
        ends[0] == flat.data_ptr() + flat.numel() * flat.element_size()
        and sent[-1][0] == flat.data_ptr()
    )
    assert all(start == end for (start, _), end in zip(sent[:-1], ends[1:], strict=True))
    # The first was sent while the first layer had its gradients to come, and all before backward
    # ended.
    assert names.index("sent") < events.index(("finished", "decoder.0.attn.qkv_proj.weight"), last)
    assert record["sums_in_backward"] == len(sent) and names[-1] == "backward ended"


def test_two_ranks_give_the_same_bytes_each_time_and_the_log_says_what_they_waited(
    tmp_path: Path,
) -> None:
    trainings = [Training(tmp_path / name) for name in ("first", "second")]
    for training in trainings:
        training.write_recipe(model={"ddp_bucket_cap_mb": 0})
        done = training.train(8, ranks=2)
        assert done.returncode == 0, done.stderr
    assert trainings[0].weights(8) == trainings[1].weights(8)
    line = trainings[0].log(8)[1]
    assert line["sum_wait_seconds"] >= 0 and line["sums_in_backward"] > 10


def test_reading_ahead_changes_nothing_and_an_error_comes_in_its_turn(tmp_path: Path) -> None:
    recipe = read_recipe(Training(tmp_path).recipe)
    plain, ahead = Batches(recipe), Prefetch(Batches(recipe), 6)
    for _ in range(6):
        expected, actual = plain.next(), ahead.next()
        assert [batch.input_ids.tolist() for batch in expected] == [
            batch.input_ids.tolist() for batch in actual.micro_batches
        ]
        assert plain.drawn == actual.drawn and plain.origin() == actual.origin
    long = replace(recipe, tokens=replace(recipe.tokens, train_steps=4000))
    ahead, walked = Prefetch(Batches(long), 4000), 0
    with pytest.raises(InputError, match="are used up"):
        for walked in range(4000):  # noqa: B007
            ahead.next()
    assert walked > 50


def test_a_checkpoint_is_what_was_there_when_it_was_asked_for(tmp_path: Path, monkeypatch) -> None:
    release, save = threading.Event(), checkpoint.save
    monkeypatch.setattr(
        checkpoint, "save", lambda *arguments: (release.wait(20), save(*arguments))[1]
    )
    writer, weights = CheckpointWriter(), {"w": torch.ones(3, 2)}
    log = ["one\n"]
    writer.save(
        tmp_path / "4",
        State(4, "r", "d", [[1]], 9, {}),
        weights,
        {"m": torch.zeros(2)},
        log,
        (0, 100, 2),
    )
    weights["w"].fill_(7.0)  # the training goes on
    log.append("two\n")
    assert not (tmp_path / "4").exists()
    release.set()
    state = writer.wait()
    assert state == checkpoint.read_state(tmp_path / "4") and len(state.sha256) == 2
    assert torch.equal(
        checkpoint.load(tmp_path / "4")[0]["w"], torch.ones(3, 2)
    ) and checkpoint.load(tmp_path / "4")[2] == ["one\n"]


def test_what_writing_raised_is_raised_where_the_training_waits(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    writer = CheckpointWriter()
    writer.save(
        tmp_path / "file" / "4",
        State(4, "r", "d", [[1]], 9, {}),
        {"w": torch.ones(2)},
        {"m": torch.ones(2)},
        [],
        (0, 100, 2),
    )
    time.sleep(0.2)
    with pytest.raises(InputError, match="cannot write the checkpoint"):
        writer.save(
            tmp_path / "8",
            State(8, "r", "d", [[1]], 9, {}),
            {"w": torch.ones(2)},
            {"m": torch.ones(2)},
            [],
            (0, 100, 2),
        )
