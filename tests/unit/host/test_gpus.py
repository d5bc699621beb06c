"""Jobs that share a machine's GPUs: each has its own, and the run starts no more than fit."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from zagreus.errors import InputError
from zagreus.launch.gpus import SHARED, VISIBLE, claim_gpus, gpus_here, require_gpus

# A job: it takes its GPUs, leaves a child of its own behind for a moment, and says what it had.
JOB = """
import json, os, subprocess, sys, time
from pathlib import Path
import zagreus.launch.gpus
zagreus.launch.gpus.FOLDER = Path(sys.argv[1])
claimed = zagreus.launch.gpus.claim_gpus(int(sys.argv[2]), poll_s=0.01)
start = time.monotonic()
subprocess.run([sys.executable, "-c", "import time; time.sleep(0.15)"], close_fds=False)
print(json.dumps([claimed, os.environ["CUDA_VISIBLE_DEVICES"], start, time.monotonic()]))
"""


def start_job(folder: Path, count: int, shared: str) -> subprocess.Popen[str]:
    environment = {**os.environ, SHARED: shared}
    command = [sys.executable, "-c", JOB, str(folder), str(count)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def test_never_two_jobs_on_one_gpu(tmp_path: Path) -> None:
    jobs = [start_job(tmp_path, count, "0,2,5") for count in (1, 2, 1, 3, 1, 2, 1, 1)]
    held: dict[str, list[tuple[float, float]]] = {}
    for job, count in zip(jobs, (1, 2, 1, 3, 1, 2, 1, 1), strict=True):
        said = job.communicate(timeout=60)[0].splitlines()[-1]
        claimed, visible, start, end = json.loads(said)
        assert len(claimed) == count and visible == ",".join(claimed)
        for name in claimed:
            held.setdefault(name, []).append((start, end))
    assert set(held) == {"0", "2", "5"}
    for spans in held.values():
        spans.sort()
        assert all(earlier[1] <= later[0] for earlier, later in zip(spans, spans[1:]))


def test_a_killed_job_frees_its_gpu(tmp_path: Path) -> None:
    first = start_job(tmp_path, 1, "0")
    while not list(tmp_path.rglob("0")):
        pass
    first.kill()
    first.wait()
    said = start_job(tmp_path, 1, "0").communicate(timeout=60)[0].splitlines()[-1]
    assert json.loads(said)[0] == ["0"]


def test_nothing_is_claimed_on_cpus_and_under_slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SHARED, "")
    monkeypatch.setenv(VISIBLE, "3")
    assert claim_gpus(1) == [] and os.environ[VISIBLE] == "3"


def test_more_than_the_run_shares_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SHARED, "0,1")
    with pytest.raises(InputError, match=r"2 GPUs \(0,1\), expected 4"):
        claim_gpus(4)


@pytest.mark.parametrize(
    ("visible", "said", "expected"),
    [
        (None, "0\n1\n", ["0", "1"]),
        ("1", "0\n1\n", ["1"]),
        ("GPU-8a, GPU-9b", "", ["GPU-8a", "GPU-9b"]),
        ("", "0\n1\n", []),
        (None, "No devices were found\n", []),
        (None, "exit 9", []),
    ],
)
def test_gpus_here(
    visible: str | None,
    said: str,
    expected: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(VISIBLE, raising=False)
    if visible is not None:
        monkeypatch.setenv(VISIBLE, visible)
    body = said if said.startswith("exit") else f"printf '{said}'"
    (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{body}\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert gpus_here() == expected


@pytest.mark.parametrize(
    ("here", "jobs", "line"),
    [
        ([], [("fetch", 0)], None),
        (["0"], [("evaluate", 1), ("fetch", 0)], None),
        ([], [("evaluate", 1)], "torch: cuda12: evaluate computes on a GPU, and this machine has"),
        (["0", "1"], [("pretrain", 8)], "cluster.ranks_per_node: pretrain asks for 8 GPUs"),
    ],
)
def test_a_run_that_does_not_fit_is_one_line(
    here: list[str], jobs: list[tuple[str, int]], line: str | None
) -> None:
    if line is None:
        require_gpus(here, jobs, "cuda12")
        return
    with pytest.raises(InputError) as error:
        require_gpus(here, jobs, "cuda12")
    assert str(error.value).startswith(line) and "\n" not in str(error.value)


def test_every_script_of_a_rule_with_gpus_claims_them() -> None:
    rules = "".join(path.read_text() for path in sorted(Path("rules").glob("*.smk")))
    asking = [
        rule for rule in re.split(r"^rule ", rules, flags=re.MULTILINE) if "gpu_slots=" in rule
    ]
    scripts = {name for rule in asking for name in re.findall(r"scripts/(\w+\.py)", rule)}
    assert len(asking) == 5 and len(scripts) == 5
    for script in scripts:
        tree = ast.parse(Path("scripts", script).read_text())
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
        assert any(ast.unparse(call.func) == "claim_gpus" for call in calls), script
