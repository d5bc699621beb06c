"""What the set-up found out about this machine: `.tools/platform.json`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from zagreus.errors import InputError

PLATFORM = Path(".tools/platform.json")
# Where nothing was set up (a cluster with its own Snakemake and Apptainer): nothing special is
# needed.
ORDINARY: dict[str, Any] = {
    "software": "apptainer",
    "apptainer": None,
    "image": "sif",
    "exec_arguments": [],
    "cpu_torch": "cpu",
    "pip": [],
    "base": {},
}


def read_platform(path: Path = PLATFORM) -> dict[str, Any]:
    """Return what the set-up wrote, or the ordinary case where it was never run.

    Keys: `software` (`apptainer` or `venv`), `apptainer` (its path), `image` (`sif` or `sandbox`),
    `exec_arguments` (for `apptainer exec`), `cpu_torch` (which lock serves `torch: cpu`: `cpu` or
    `cuda13`), `pip` (arguments for pip: where else to look), `base` (where the base image comes
    from where somebody said it: `from` and `registry`, zagreus/platform/base.py).
    """
    if not path.is_file():
        return dict(ORDINARY)
    try:
        return ORDINARY | json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise InputError(
            f"{path}: invalid JSON ({error}); remove it and run `make setup`"
        ) from None
