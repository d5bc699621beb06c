"""The nodes of one Slurm job, asked from within it."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from zagreus.cluster.slurm import ask, show
from zagreus.errors import InputError

# Ports below those that Linux gives away by itself (ip_local_port_range begins at 32768), above
# those of common services.
PORTS = range(16000, 32000)


@dataclass
class Allocation:
    """Nodes by name, and the address of the first, on which the job's script runs."""

    names: list[str]
    """Names of the nodes, the first one first."""
    address: str
    """Address of the first node, where the job's script runs."""

    @classmethod
    def of(cls, job: str) -> Allocation:
        """Return the nodes of a job."""
        facts = show("job", job)[0]
        names = ask("scontrol", "show", "hostnames", facts["NodeList"]).split()
        first = show("node", facts["BatchHost"])[0]
        return cls(names, first["NodeAddr"])


def meeting_port(job: int) -> int:
    """Return a port on this node that is free now.

    The job's own place in the range, so that two jobs never look at the same one first,
    or the next free one.

    Raises:
        InputError: a hundred ports in a row are taken.
    """
    for attempt in range(100):
        port = PORTS[(job + 97 * attempt) % len(PORTS)]
        with socket.socket() as probe:
            try:
                probe.bind(("", port))
            except OSError:
                continue
            return port
    raise InputError(
        f"job {job}: no free port for the ranks to meet among a hundred from "
        f"{PORTS[job % len(PORTS)]} on"
    )


def require_shared(step: Sequence[str], folder: Path, further: Sequence[Path]) -> None:
    """Raise `InputError` where a node does not see what this one sees.

    A file that is written into `folder` now, and `further` files.

    Args:
        step: the start of an srun command that runs something once on each node.
    """
    seen = folder / f".seen-{os.environ['SLURM_JOB_ID']}"
    seen.touch()
    script = 'for file in "$@"; do [ -e "$file" ] || echo "$SLURMD_NODENAME $file"; done'
    try:
        done = subprocess.run(
            [*step, "sh", "-c", script, "sh", str(seen), *map(str, further)],
            capture_output=True,
            text=True,
        )
    finally:
        seen.unlink(missing_ok=True)
    if done.returncode:
        raise InputError(f"srun: {' '.join(done.stderr.split())}")
    missing = sorted(line.split(" ", 1) for line in done.stdout.splitlines() if line)
    if missing:
        nodes = ", ".join(sorted({node for node, _ in missing}))
        path = Path(missing[0][1])
        raise InputError(
            f"{folder if path == seen else path}: not seen from {nodes}; the repository, "
            "`resources` and `results` must lie on a file system that all nodes share"
        )
