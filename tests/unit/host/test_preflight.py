"""The table of a preflight and its limits; which command a Slurm job measures its nodes with."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

import pytest

from zagreus.cluster.launch import preflight_command
from zagreus.errors import InputError
from zagreus.preflight.judge import Limits, check, summary, table, transport_of

# As NCCL 2.27 writes them with NCCL_DEBUG=INFO and NCCL_DEBUG_SUBSYS=INIT,NET.
OVER_IB = """a100-01:812:812 [0] NCCL INFO NET/IB : Using [0]mlx5_0:1/IB [1]mlx5_1:1/IB [RO]; OOB ib0:10.0.0.1<0>
a100-01:812:812 [0] NCCL INFO Initialized NET plugin IB
a100-01:812:812 [0] NCCL INFO Using network IB
"""  # noqa: E501
OVER_TCP = """a100-01:812:812 [0] NCCL INFO NET/IB : No device found.
a100-01:812:812 [0] NCCL INFO NET/Socket : Using [0]eth0:10.0.0.1<0>
a100-01:812:812 [0] NCCL INFO Using network Socket
"""
WHOLE = {"all_gb_s": 90.0, "transport": "IB", "meeting": "a100-01:16001", "meeting_seconds": 2.0}


def row(rank: int, **changes: Any) -> dict[str, Any]:
    """A measurement of a rank, two on each node."""
    made = {
        "rank": rank,
        "node": f"a100-{rank // 2 + 1:02}",
        "node_number": rank // 2,
        "device": f"{rank % 2} A100",
    }
    made |= {
        "matmul_tflops": 240.0,
        "copy_gb_s": 1500.0,
        "within_gb_s": 220.0,
        "clock_skew_s": 0.001,
    }
    made |= {
        "shared_write_mb_s": 900.0,
        "shared_read_mb_s": 1200.0,
        "driver": "driver 580.65, CUDA 13.0",
    }
    return made | changes


def ranks(**of_five: Any) -> list[dict[str, Any]]:
    """Eight ranks on four nodes; rank 5, on the third, has other values."""
    return [row(rank, **(of_five if rank == 5 else {})) for rank in range(8)]


@pytest.mark.parametrize(
    ("log", "network"),
    [
        (OVER_IB, "IB"),
        (OVER_TCP, "Socket"),
        ("", None),
        (OVER_TCP.replace("Using network Socket\n", ""), "Socket"),
    ],
)
def test_the_network_is_read_from_nccls_own_words(log: str, network: str | None) -> None:
    assert transport_of(log) == network


def test_the_table_has_a_line_a_rank_and_names_the_slowest() -> None:
    measured = ranks(matmul_tflops=180.0)
    lines = table(measured)
    assert (
        len(lines) == 9
        and lines[0].split()[:3] == ["rank", "node", "device"]
        and "180.00" in lines[6]
    )
    assert summary(measured, WHOLE) == [
        "met at a100-01:16001 in 2.0 s",
        "all-reduce of all 8 ranks: 90.00 GB/s over IB",
        "driver 580.65, CUDA 13.0",
        "slowest: rank 5 on a100-03, matmul TFLOP/s 25% behind the median",
    ]


@pytest.mark.parametrize(
    ("limits", "of_five", "whole", "words"),
    [
        (
            {},
            {"matmul_tflops": 1.0, "clock_skew_s": 100.0},
            {"transport": "Socket"},
            None,
        ),  # without limits it only shows
        ({"max_lag": 0.2}, {}, {}, None),
        (
            {"max_lag": 0.2},
            {"copy_gb_s": 1000.0},
            {},
            "rank 5 on a100-03: copy GB/s is 33% behind the median; max_lag is 0.2",
        ),
        (
            {"min_matmul_tflops": 200},
            {"matmul_tflops": 180.0},
            {},
            "rank 5 on a100-03: matmul TFLOP/s is 180.00, expected 200",
        ),
        (
            {"min_shared_mb_s": 100},
            {"shared_read_mb_s": 9.0},
            {},
            "rank 5 on a100-03: shared read MB/s is 9.00, expected 100",
        ),
        (
            {"max_clock_skew_s": 5},
            {"clock_skew_s": -60.0},
            {},
            "a100-03: its clock is -60.000 s off; max_clock_skew_s is 5",
        ),
        (
            {"min_allreduce_gb_s": 80},
            {"link_gb_s": 0.9},
            {"all_gb_s": 1.1, "transport": "Socket"},
            "all-reduce of all ranks is 1.10 GB/s over Socket, the slowest link is a100-03's "
            "(0.90); min_allreduce_gb_s is 80",
        ),
        ({"transport": "ib"}, {}, {}, None),
        (
            {"transport": "IB"},
            {},
            {"transport": "Socket"},
            "the ranks talk over Socket between nodes, expected IB (cluster.transport)",
        ),
        ({}, {"ecc_errors": 3}, {}, "a100-03: GPU 1 A100 has 3 uncorrected memory errors"),
    ],
)
def test_what_is_beyond_a_limit_is_named(
    limits: dict[str, Any], of_five: dict[str, Any], whole: dict[str, Any], words: str | None
) -> None:
    arguments = (ranks(**of_five), WHOLE | whole, Limits.of({"nodes": 4, **limits}))
    if words is None:
        return check(*arguments)
    with pytest.raises(InputError, match="^preflight: .*" + re.escape(words)):
        check(*arguments)


def test_all_problems_are_one_line() -> None:
    measured, limits = (
        ranks(matmul_tflops=1.0, clock_skew_s=9.0),
        Limits(max_lag=0.2, max_clock_skew_s=5, min_matmul_tflops=100),
    )
    with pytest.raises(InputError) as raised:
        check(measured, WHOLE, limits)
    assert str(raised.value).count(";") >= 3 and "\n" not in str(raised.value)


TRAINING = (
    "apptainer exec train.sif python -P scripts/pretrain.py --step 4 --ranks 8 --device cuda "
    "--output x.json --nodes 2 --meeting a:1"
)


@pytest.mark.parametrize(
    ("command", "gres", "cluster", "made"),
    [
        (TRAINING, "gpu:8", {}, "--ranks 8 --device cuda"),
        (TRAINING, "gpu:8", {"preflight": False}, None),
        (
            TRAINING.replace("pretrain.py", "posttrain.py").replace("--device cuda ", ""),
            "gpu:8",
            {},
            "--ranks 8 --device cuda",
        ),
        (
            TRAINING.replace("pretrain.py", "posttrain.py").replace("--device cuda ", ""),
            "",
            {},
            "--ranks 8 --device cpu",
        ),
        (TRAINING.replace("pretrain.py", "preflight.py"), "gpu:8", {}, None),
        ("python start.py --nodes 2", "gpu:8", {}, None),
    ],
)
def test_a_training_measures_its_nodes_first(
    command: str,
    gres: str,
    cluster: dict[str, Any],
    made: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In its own image, with its own ranks and geometry."""
    monkeypatch.setenv("ZAGREUS_CLUSTER", json.dumps({"max_lag": 0.2, **cluster}))
    actual = preflight_command(
        command.split(), argparse.Namespace(gres=gres, folder=Path("checkpoints"))
    )
    if made is None:
        assert actual == []
        return
    line = " ".join(actual)
    assert (
        line.startswith("apptainer exec train.sif python -P scripts/preflight.py ") and made in line
    )
    assert (
        line.endswith("--nodes 2 --meeting a:1")
        and '"max_lag": 0.2' in line
        and "--step" not in line
    )
