"""Compiled kernels of the layer and of the loss, assembled for A100 and H100 without either (`-m
slow`; triton is in `train.cuda.lock`).
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

NEEDS_TRITON = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None,
    reason=(
        "no triton here: it comes with envs/train.cuda.lock, or by `pip install triton` at "
        "its version"
    ),
)


@pytest.mark.slow
@NEEDS_TRITON
@pytest.mark.parametrize("capability", [80, 90])
def test_kernels_are_few_and_assemble(capability: int) -> None:
    path = os.pathsep.join([str(Path.cwd()), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-P", "tests/unit/train/assembly.py", str(capability)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, env={**os.environ, "PYTHONPATH": path}
    )
    assert done.returncode == 0, done.stderr[-3000:]
    kernels_of = json.loads(done.stdout.splitlines()[-1])
    # Kernels and megabytes of a layer for 16,384 tokens, and of the loss for 4,096.
    bounds = {"forward": (6, 680), "backward": (8, 880), "loss": (1, 2110)}
    for name, (kernels, megabytes) in bounds.items():
        assert (
            kernels_of[name]["kernels"] <= kernels and kernels_of[name]["bytes"] / 1e6 < megabytes
        ), (
            name,
            kernels_of[name],
        )
        assert kernels_of[name]["cubins"] and all(
            size > 1000 for size in kernels_of[name]["cubins"].values()
        )
