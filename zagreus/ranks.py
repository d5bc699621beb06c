"""Processes that train together: torchrun on this node and, where a launcher says so, on its fellows.

    python -P -m zagreus.ranks OPTIONS OF TORCHRUN PROGRAM ...

is torchrun that hands every signal on to its ranks and then waits for them, however long they take to save. Torchrun itself would end at a
second signal, and Slurm sends one to each process of a step on some clusters and to the first one alone on others.

The launcher (zagreus/cluster/launch.py) says in the environment which node this is: ZAGREUS_NODES, ZAGREUS_NODE, ZAGREUS_MEETING (host:port
of the first one).
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType

# Set unless the environment says otherwise; a site's own NCCL and Gloo variables reach the images too (`PASSED` in zagreus/cluster/launch.py).
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",  # ranks share the cores, and the order of sums does not depend on how many there are
    "NCCL_DEBUG": "WARN",
    "TORCH_NCCL_ASYNC_ERROR_HANDLING": "1",  # a rank whose fellow died ends, and does not wait for it for ever
    "CUDA_DEVICE_MAX_CONNECTIONS": "1",  # communication starts in the order in which it was issued (nanotron's launch scripts)
}


def node_count(environment: Mapping[str, str] = os.environ) -> int:
    """Return how many nodes train together."""
    return int(environment.get("ZAGREUS_NODES", "1"))


def node_number(environment: Mapping[str, str] = os.environ) -> int:
    """Return which of the nodes this is, from 0."""
    return int(environment.get("ZAGREUS_NODE", "0"))


def torchrun(ranks: int, program: Sequence[str], environment: Mapping[str, str] = os.environ) -> tuple[list[str], dict[str, str]]:
    """Return the command that starts `ranks` processes of a program on this node, and its environment."""
    variables = {**ENVIRONMENT, **environment, "PYTHONSAFEPATH": "1"}
    command = [sys.executable, "-P", "-m", "zagreus.ranks", "--nproc-per-node", str(ranks), "--nnodes", str(node_count(environment))]
    if node_count(environment) > 1:
        # Static: a rank's number follows from its node's, so that sums are made in the same order when a job starts again.
        host, port = environment["ZAGREUS_MEETING"].rsplit(":", 1)
        command += ["--node-rank", str(node_number(environment)), "--master-addr", host, "--master-port", port]
    else:
        # On the loopback interface, whatever the host is called, and on a port that nobody else can have.
        host = "127.0.0.1"
        command += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0", "--local-addr", "127.0.0.1"]
    if host == "127.0.0.1":
        variables.setdefault("GLOO_SOCKET_IFNAME", "lo")
    return [*command, *program], variables


def hand_on(number: int, frame: FrameType | None) -> None:
    """Send a signal to this process's children."""
    for child in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
        os.kill(int(child), number)


if __name__ == "__main__":
    for handled in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2):
        signal.signal(handled, hand_on)
    from torch.distributed.run import main

    main(["--signals-to-handle", "SIGQUIT", *sys.argv[1:]])
