"""Two ranks over gloo of which one stops: the flight recorder's real dumps, read into one line.

And the
straggler of a training."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from small import Training, environment

from zagreus.cluster.hang import explain, read_dumps
from zagreus.training import watch

# Each step has three all-reduces; rank 1 does not come to the second one of step 5.
PROGRAM = """
import os, sys, time
from pathlib import Path
import torch, torch.distributed as dist
from zagreus.training.watch import Watch

folder = Path(sys.argv[1])
dist.init_process_group("gloo")
rank = dist.get_rank()
watch = Watch(rank, 2, torch.device("cpu"), folder)
gradient = torch.ones(4)
for step in range(1, 6):
    watch.begin()
    watch.computed()
    for number in (1, 2, 3):
        if (rank, step, number) == (1, 5, 2):
            break
        work = dist.all_reduce(gradient, async_op=True)
        if step < 5 or number < 2:
            work.wait()
        else:
            break
    else:
        watch.end(step)
time.sleep(1)
(folder / f"rank_{rank}").write_bytes(torch._C._distributed_c10d._dump_fr_trace())
os._exit(0)
"""


def test_the_rank_that_did_not_come_is_named(tmp_path: Path) -> None:
    (tmp_path / "rank.py").write_text(PROGRAM)
    command = [
        sys.executable,
        "-P",
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
    ]
    done = subprocess.run(
        [*command, str(tmp_path / "rank.py"), str(tmp_path)],
        env=environment() | {"TORCH_FR_BUFFER_SIZE": "2000", "SLURMD_NODENAME": "a100-05"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert sorted(read_dumps(tmp_path)) == [0, 1], done.stderr[-2000:]
    assert explain(tmp_path) == "rank 1 on a100-05 did not enter all-reduce 2 of step 5"
    (tmp_path / "rank_1").unlink()
    assert (
        explain(tmp_path)
        == "rank 1 on a100-05 left no dump; rank 0 on a100-05 waits in all-reduce 2 of step 5"
    )
    (tmp_path / "rank_0").write_bytes((tmp_path / "rank_0").read_bytes()[:-20])
    assert explain(tmp_path) is None  # cut off: nothing is made up


def test_the_log_names_the_slowest_rank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    training = Training(tmp_path)
    training.write_recipe(
        tokens={"train_steps": 100},
        checkpoints={"checkpoint_interval": 1000},
        zagreus={"end_of_data": "epochs"},
    )
    done = training.train(100, ranks=2)
    assert done.returncode == 0, done.stderr[-2000:]
    looked = [line for line in training.log(100) if "slowest_rank" in line]
    assert [line["step"] for line in looked] == [watch.INTERVAL]
    assert (
        looked[0]["slowest_rank"] in (0, 1)
        and looked[0]["slowest_lag"] >= 0
        and looked[0]["slowest_host"]
    )
    notes = [
        json.loads((tmp_path / "flight-recorder" / f"rank_{rank}.json").read_text())
        for rank in (0, 1)
    ]
    assert all(note["step"] == 100 and note["per_step"] > 1 and note["host"] for note in notes), (
        notes
    )
    assert os.environ.get("SLURMD_NODENAME", looked[0]["slowest_host"]) == looked[0]["slowest_host"]
