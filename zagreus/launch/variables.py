"""The environment variables that programs run with: one table for each program, a reason for each.

What the environment says already wins, but for those that a run relies on (`DEMANDED`). `PASSED` is
what reaches the images from the host, where `--cleanenv` keeps everything else out.
"""

from __future__ import annotations

import os
import shlex
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from zagreus.processor import PORTABLE as PORTABLE_SET


@dataclass(frozen=True)
class Variable:
    """One variable: its value, and why it is set."""

    name: str
    value: str
    reason: str


# Names as numpy 2.3 has them; a processor without one of them is no error.
NUMPY_BEYOND_AVX2 = "AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL AVX512_SPR"

# The folder for the dumps of a collective that hung: beside the checkpoints of a pre-training, in
# the working folder of a post-training stage.
FLIGHT_RECORDER = "flight-recorder"

ONE_THREAD = Variable(
    "OMP_NUM_THREADS",
    "1",
    "ranks share the cores, and the order of sums does not depend on how many there are",
)

# Whatever meets others over NCCL. TORCH_NCCL_ASYNC_ERROR_HANDLING is left at torch's default (3:
# end the process): 1 aborts the communicator first, which can hang itself.
RANKS = (
    ONE_THREAD,
    Variable("NCCL_DEBUG", "WARN", "NCCL says what went wrong"),
    Variable("TORCH_FR_BUFFER_SIZE", "2000", "the flight recorder keeps the last collectives"),
    Variable("TORCH_NCCL_DUMP_ON_TIMEOUT", "1", "a hung collective leaves the recorder's dump"),
)

# Compilers' caches: on the node's own disk. A shared file system is slow for thousands of small
# files, and ranks of several nodes would write one file. The images' home is the repository.
CACHES = {"TORCHINDUCTOR_CACHE_DIR": "inductor", "TRITON_CACHE_DIR": "triton"}

PRETRAIN = (
    *RANKS,
    Variable(
        "CUDA_DEVICE_MAX_CONNECTIONS",
        "1",
        "sums of gradients start in the order in which they were issued (nanotron's launch "
        "scripts); not under FSDP, whose all-gathers must overtake the computation",
    ),
)

PREFLIGHT = RANKS

POSTTRAIN = (
    *RANKS,
    Variable("TOKENIZERS_PARALLELISM", "false", "the tokenizer's threads do not survive a fork"),
)

TABLES = {"pretrain": PRETRAIN, "posttrain": POSTTRAIN, "preflight": PREFLIGHT}

# Set whatever the environment says.
DEMANDED: dict[str, tuple[Variable, ...]] = {
    "pretrain": (),
    "preflight": (),
    "posttrain": (
        ONE_THREAD,
        Variable("TOKENIZERS_PARALLELISM", "false", "as above"),
        Variable("HF_HUB_OFFLINE", "1", "without it a run asks the hub"),
        Variable("TRANSFORMERS_OFFLINE", "1", "the same"),
        Variable("HF_DATASETS_OFFLINE", "1", "the same"),
        Variable("HF_HUB_DISABLE_TELEMETRY", "1", "the hub's client reports use"),
        Variable("AXOLOTL_DO_NOT_TRACK", "1", "Axolotl reports use"),
        Variable("DO_NOT_TRACK", "1", "other libraries report use"),
        Variable("WANDB_MODE", "disabled", "the logger would ask for an account"),
    ),
}

# Post-training without a GPU.
WITHOUT_GPU = (
    Variable("ACCELERATE_USE_CPU", "true", "without it processes train alone, into one folder"),
    Variable("ACCELERATE_TORCH_DEVICE", "cpu", "without it they cannot load their checkpoints"),
    Variable("CUDA_VISIBLE_DEVICES", "", "libraries look for a GPU that torch cannot use"),
)

# `portable: true`: one instruction set for all x86-64 processors from AVX2 on, so that sums of
# floats have the same last bits. Set before Python starts, in the images that compute with floats.
PORTABLE_IMAGES = ("train", "posttrain", "evaluate")
PORTABLE = (
    Variable(PORTABLE_SET, "1", "manifests and unfinished work are marked"),
    Variable("ATEN_CPU_CAPABILITY", "avx2", "torch's own kernels"),
    Variable("ONEDNN_MAX_CPU_ISA", "AVX2", "matrix products through oneDNN"),
    Variable("MKL_CBWR", "COMPATIBLE", "its other branches differ between makers"),
    Variable("NPY_DISABLE_CPU_FEATURES", NUMPY_BEYOND_AVX2, "numpy's sums and functions"),
)

# Variables of the host, by the beginnings of their names, that an image sees all the same.
PASSED = {
    "PYTHONPATH": "the library is in the repository, not in the image",
    "ZAGREUS_": "the workflow's own",
    "NCCL_": "a site's network of GPUs",
    "GLOO_": "a site's network of hosts",
    "UCX_": "the same, under UCX",
    "FI_": "the same, under libfabric (Slingshot, EFA)",
    "TORCH_NCCL_": "time limits and dumps of NCCL",
    "TORCH_FR_": "the flight recorder",
    "TORCHINDUCTOR_": "the compiler, and where its cache lies",
    "TRITON_": "the same",
    "TORCH_LOGS": "what torch says about compilation and collectives",
    "TORCH_COMPILE_DEBUG": "the same, in files",
}


def with_variables(table: Iterable[Variable], command: str) -> str:
    """Return a shell command that runs with the variables of a table."""
    values = (f"{variable.name}={shlex.quote(variable.value)}" for variable in table)
    return f"env {' '.join(values)} {command}"


def is_passed(name: str) -> bool:
    """Return whether a variable of the host reaches the images."""
    return name.startswith(tuple(PASSED))


def environment_of(
    program: str, environment: Mapping[str, str], dumps: Path | None = None
) -> dict[str, str]:
    """Return the whole environment of a program's ranks.

    Args:
        program: a key of `TABLES`.
        environment: what it starts from.
        dumps: the folder for the flight recorder's dumps, one file for each rank.
    """
    local = Path(tempfile.gettempdir()) / f"zagreus-{os.getuid()}"
    made = {name: str(local / folder) for name, folder in CACHES.items()}
    made |= {variable.name: variable.value for variable in TABLES[program]}
    if dumps is not None:
        # Two names: NCCL's watchdog reads the first one, the recorder of other backends the second.
        made |= {
            name: str(dumps / "rank_")
            for name in ("TORCH_NCCL_DEBUG_INFO_TEMP_FILE", "TORCH_FR_DUMP_TEMP_FILE")
        }
    return {
        **made,
        **environment,
        **{variable.name: variable.value for variable in DEMANDED[program]},
    }
