"""Several partitions, and types of GPUs with signs in them, as the commands of Slurm print them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from zagreus.cluster.request import Request, check_requests
from zagreus.errors import InputError

PARTITIONS = """PartitionName=a100 Default=NO MaxTime=1-00:00:00 MaxNodes=UNLIMITED
PartitionName=short Default=NO MaxTime=00:30:00 MaxNodes=UNLIMITED
PartitionName=cpu Default=YES MaxTime=UNLIMITED MaxNodes=UNLIMITED
"""
NODES = """NodeName=n1 CPUTot=64 RealMemory=500000 Gres=gpu:nvidia_a100-sxm4-80gb:8(S:0-1) Partitions=a100,short
NodeName=n2 CPUTot=64 RealMemory=500000 Gres=(null) Partitions=cpu
"""  # noqa: E501
ASKED = Request("pretrain", "a100", "", 1, "gpu:nvidia_a100-sxm4-80gb:8", 64, 480_000, 1440)


@pytest.fixture(autouse=True)
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Commands that answer as Slurm's do; what is asked of sbatch is written to a file."""
    (tmp_path / "partition").write_text(PARTITIONS)
    (tmp_path / "node").write_text(NODES)
    commands = {"scontrol": f'cat "{tmp_path}/$3"', "sbatch": f'echo "$@" > "{tmp_path}/asked"'}
    for name, command in commands.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{command}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path / "asked"


@pytest.mark.parametrize("partition", ["a100", "a100,short", "short,a100", "cpu,a100"])
def test_one_of_several_partitions_is_enough(partition: str, slurm: Path) -> None:
    check_requests([Request(**{**vars(ASKED), "partition": partition})])
    assert f"--partition={partition}" in slurm.read_text()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"partition": "short,cpu"}, "runtime is 1440 minutes, partition short allows 30"),
        (
            {"partition": "a100,gpus"},
            "slurm_partition is 'gpus', which the cluster does not have; it has a100, cpu, short",
        ),
        (
            {"gres": "gpu:nvidia_a100-sxm4-40gb:8"},
            "asks for GPUs of type nvidia_a100-sxm4-40gb .*, partition a100 has "
            "nvidia_a100-sxm4-80gb",
        ),
        (
            {"gres": "gpu:nvidia_a100-sxm4-80gb:16"},
            "asks for 16 GPUs of a node .*, partition a100 has 8",
        ),
    ],
)
def test_a_request_that_no_partition_grants(change: dict[str, str], expected: str) -> None:
    with pytest.raises(InputError, match=f"^rule pretrain: {expected}"):
        check_requests([Request(**{**vars(ASKED), **change})])
