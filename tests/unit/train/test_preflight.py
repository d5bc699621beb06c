"""scripts/preflight.py over gloo.

What it measures, a rank that is slow, and TCP where a fabric was expected.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

from small import environment

# scripts/preflight.py in whose rank 1 every product of matrices takes 50 ms longer.
SLOW = """
import os, runpy, sys, time
import torch
from zagreus.launch.ranks import torchrun
if "RANK" not in os.environ:
    command, environment = torchrun("preflight", 2, sys.argv)
    os.execve(command[0], command, environment)
product = torch.mm
def slowly(*arguments):
    time.sleep(0.05)
    return product(*arguments)
if os.environ.get("RANK") == "1":
    torch.mm = slowly
runpy.run_path("scripts/preflight.py", run_name="__main__")
"""


def start(
    program: str, folder: Path, limits: dict[str, object], *further: str
) -> subprocess.Popen[str]:
    """Start a preflight of two ranks."""
    command = [
        sys.executable,
        "-P",
        program,
        "--ranks",
        "2",
        "--shared",
        str(folder / "shared"),
        "--limits",
        json.dumps(limits),
    ]
    command += ["--output", str(folder / "preflight.json"), *further]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
    )


def test_a_slow_rank_is_named(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(SLOW)
    process = start(str(tmp_path / "slow.py"), tmp_path, {"max_lag": 0.5, "nodes": 1})
    said, errors = process.communicate(timeout=120)
    assert process.returncode != 0 and "Traceback" not in errors, errors
    (line,) = [line for line in errors.splitlines() if "error: preflight: " in line]
    assert "rank 1 on " in line and "matmul TFLOP/s is" in line and "max_lag is 0.5" in line
    assert "slowest: rank 1 on " in said
    measured = json.loads((tmp_path / "preflight.json").read_text())
    assert [row["rank"] for row in measured["ranks"]] == [0, 1] and measured["whole"][
        "transport"
    ] == "TCP (gloo)"
    for row in measured["ranks"]:
        assert (
            min(row["matmul_tflops"], row["copy_gb_s"], row["within_gb_s"]) > 0
            and abs(row["clock_skew_s"]) < 5
        )
    assert measured["ranks"][0]["shared_write_mb_s"] > 0 and not list(
        (tmp_path / "shared").iterdir()
    )


def test_two_nodes_that_fall_back_to_tcp_are_refused(tmp_path: Path) -> None:
    """Two launchers on this machine, one rank each: the config wants a fabric, gloo has TCP."""
    limits = {"transport": "IB", "min_allreduce_gb_s": 1000, "nodes": 2}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        meeting = f"127.0.0.1:{free.getsockname()[1]}"
    command = [
        sys.executable,
        "-P",
        "scripts/preflight.py",
        "--ranks",
        "1",
        "--shared",
        str(tmp_path),
        "--limits",
        json.dumps(limits),
    ]
    command += ["--nodes", "2", "--meeting", meeting]
    processes = [
        subprocess.Popen(
            [*command, "--node-number", str(node)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        for node in (0, 1)
    ]
    said = [process.communicate(timeout=120) for process in processes]
    assert processes[0].returncode != 0
    (line,) = [line for line in said[0][1].splitlines() if "error: preflight: " in line]
    assert "the ranks talk over TCP (gloo) between nodes, expected IB (cluster.transport)" in line
    assert "min_allreduce_gb_s is 1000" in line and "the slowest link is " in line
    assert f"met at {meeting}" in said[0][0]
