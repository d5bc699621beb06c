"""The environment that Axolotl runs in. It must be set before torch, transformers or axolotl are imported."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

# Without these a run tries to reach four hosts: telemetry, the hub, and a data-set counter.
OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "AXOLOTL_DO_NOT_TRACK": "1",
    "DO_NOT_TRACK": "1",
    "WANDB_MODE": "disabled",
}
# One thread: the order of sums, and with it the bits of the weights, does not depend on how many cores there are.
REPEATABLE = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
# Without ACCELERATE_USE_CPU several processes on a machine without GPU train alone, into one folder, and exit with 0;
# without ACCELERATE_TORCH_DEVICE they cannot load their own checkpoints.
WITHOUT_GPU = {"ACCELERATE_USE_CPU": "true", "ACCELERATE_TORCH_DEVICE": "cpu", "CUDA_VISIBLE_DEVICES": ""}


def prepare(cache: Path, further: Mapping[str, str]) -> None:
    """Set this process's environment, and its children's.

    Args:
        cache: folder for the Hugging Face libraries' caches; one of its own for each content, for `datasets` tells files
            apart by time, not by content.
        further: further variables.
    """
    gpu = bool(list(Path("/dev").glob("nvidia[0-9]*")))
    os.environ.update({**OFFLINE, **REPEATABLE, **({} if gpu else WITHOUT_GPU), **further, "HF_HOME": str(cache.absolute())})
