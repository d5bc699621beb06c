"""What the machine's GPUs can do, asked of a process of its own.

    python -P -m zagreus.posttraining.capabilities

prints it. The launcher of a training must not ask itself: a CUDA context takes some hundred
megabytes of the first GPU for as long as its process lives, and where GPUs are exclusive
(EXCLUSIVE_PROCESS) it keeps the rank out.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from zagreus.errors import InputError

# As Axolotl's gpu_capabilities() gives them on a machine without a GPU.
NONE = {"bf16": False, "fp8": False, "tf32": False, "n_gpu": 1, "compute_capability": None}


def has_gpu() -> bool:
    """Return whether the training has NVIDIA GPUs, without asking the driver.

    This machine, the build of
    torch, and the job have them."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") == "" or importlib.metadata.version("torch").endswith(
        "+cpu"
    ):
        return False
    return bool(list(Path("/dev").glob("nvidia[0-9]*")))


def machine_capabilities() -> dict[str, Any]:
    """Return this machine's capabilities in Axolotl's form; no CUDA context stays behind.

    Raises:
        InputError: the GPUs do not answer.
    """
    if not has_gpu():
        return dict(NONE)
    done = subprocess.run([sys.executable, "-P", "-m", __name__], capture_output=True, text=True)
    try:
        return dict(json.loads(done.stdout.splitlines()[-1]))
    except (IndexError, ValueError):
        said = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
        raise InputError(
            f"the GPUs of this machine cannot be asked what they can do: {said}"
        ) from None


def ask() -> dict[str, Any]:
    """Return the capabilities of the first GPU: bf16 and tf32 from Ampere on, fp8 from Hopper."""
    import torch

    if not torch.cuda.is_available():
        return dict(NONE)
    major, minor = torch.cuda.get_device_capability()
    return {
        "bf16": major >= 8,
        "fp8": (major, minor) >= (9, 0),
        "tf32": major >= 8,
        "n_gpu": int(os.environ.get("WORLD_SIZE", "1")),
        "compute_capability": f"sm_{major}{minor}",
    }


if __name__ == "__main__":
    print(json.dumps(ask()))
