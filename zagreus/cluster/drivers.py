"""The NVIDIA drivers of a Slurm job's nodes, compared with what a build of torch needs before a
training starts on them.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from zagreus.errors import InputError
from zagreus.platform.builds import build_of
from zagreus.platform.driver import QUERY, check_driver, driver_version, parse_version


def check_here(torch: str) -> None:
    """Raise `InputError` where this machine's driver is too old for `torch: VALUE`.

    An empty value is not checked.
    """
    if torch and (build := build_of(torch)).driver:
        check_driver(build, driver_version())


def check_nodes(torch: str, step: Sequence[str]) -> None:
    """Raise `InputError` where a node's driver is too old for `torch: VALUE`.

    Args:
        torch: of the configuration; an empty value is not checked.
        step: the start of an srun command that runs something once on each node.
    """
    if not torch or not (build := build_of(torch)).driver:
        return
    script = f'echo "$SLURMD_NODENAME $(nvidia-smi {" ".join(QUERY)} 2>/dev/null | head -n 1)"'
    done = subprocess.run([*step, "sh", "-c", script], capture_output=True, text=True)
    if done.returncode:
        raise InputError(f"srun: {' '.join(done.stderr.split())}")
    for line in sorted(done.stdout.splitlines()):
        node, _, version = line.partition(" ")
        check_driver(build, parse_version(version), f"node {node}")
