"""Processes that train together.

Torchrun on this node and, where a launcher says so, on its fellows.

    python -P -m zagreus.launch.ranks OPTIONS OF TORCHRUN PROGRAM ...

is torchrun that hands every signal on to its ranks and then waits for them, however long they take
to save. Torchrun itself would end at a second signal, and Slurm sends one to each process of a step
on some clusters and to the first one alone on others.

The launcher (zagreus/cluster/launch.py) says by arguments which node this is (`Geometry`): a
cluster may keep the environment of a job from its steps.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from zagreus.cluster.hang import explain
from zagreus.errors import InputError
from zagreus.launch.variables import environment_of


@dataclass(frozen=True)
class Geometry:
    """The nodes that train together."""

    nodes: int = 1
    node: int = 0  # which of them this is
    meeting: str = ""  # HOST:PORT of the first one, where there are several

    @classmethod
    def of(
        cls, arguments: argparse.Namespace, environment: Mapping[str, str] = os.environ
    ) -> Geometry:
        """Return the geometry that the arguments of `add_geometry` give.

        Raises:
            InputError: arguments that contradict one another, or the job that this runs in. A node
                that believes it is alone would train into the folder of its fellows.
        """
        nodes, node, meeting = arguments.nodes, arguments.node_number, arguments.meeting
        if not 0 <= node < nodes:
            raise InputError(
                f"--node-number {node}: no such node of --nodes {nodes}, they count from 0"
            )
        if nodes > 1 and not meeting.rpartition(":")[2].isdigit():
            raise InputError(
                f"--meeting {meeting!r}: expected HOST:PORT of the first of --nodes {nodes}"
            )
        for name, what in {
            "ZAGREUS_NODES": "the launcher",
            "SLURM_STEP_NUM_NODES": "this Slurm step",
        }.items():
            if int(environment.get(name, nodes)) != nodes:
                raise InputError(
                    f"--nodes {nodes}, but {what} has {environment[name]} nodes ({name}): each "
                    "would train alone, into one folder"
                )
        return cls(nodes, node, meeting)


ALONE = Geometry()


def add_geometry(parser: argparse.ArgumentParser) -> None:
    """Add the options by which the launcher says which node this is.

    None of them may be the beginning of one of torchrun's own: it looks at those of its program
    too, and calls a `--node` ambiguous.
    """
    group = parser.add_argument_group("several nodes", "given by zagreus/cluster/launch.py")
    group.add_argument("--nodes", type=int, default=1, help="nodes that train together (default 1)")
    group.add_argument("--node-number", type=int, default=0, help="which of them this is, from 0")
    group.add_argument("--meeting", default="", help="HOST:PORT where their ranks meet")


def torchrun(
    name: str,
    ranks: int,
    program: Sequence[str],
    geometry: Geometry = ALONE,
    dumps: Path | None = None,
    environment: Mapping[str, str] = os.environ,
) -> tuple[list[str], dict[str, str]]:
    """Return the command that starts `ranks` processes of a program on this node, and its
    environment.

    Args:
        name: whose table of variables they get (zagreus/launch/variables.py).
        dumps: the folder for the flight recorder's dumps.
    """
    if dumps is not None and geometry.node == 0:
        for old in dumps.glob("rank_*"):  # of an earlier start
            old.unlink(missing_ok=True)
    variables = {**environment_of(name, environment, dumps), "PYTHONSAFEPATH": "1"}
    command = [
        sys.executable,
        "-P",
        "-m",
        "zagreus.launch.ranks",
        "--nproc-per-node",
        str(ranks),
        "--nnodes",
        str(geometry.nodes),
    ]
    if geometry.nodes > 1:
        # Static: a rank's number follows from its node's, so that sums are made in the same order
        # when a job starts again.
        host, port = geometry.meeting.rsplit(":", 1)
        command += ["--node-rank", str(geometry.node), "--master-addr", host, "--master-port", port]
    else:
        # On the loopback interface, whatever the host is called, and on a port that nobody else can
        # have.
        host = "127.0.0.1"
        command += [
            "--rdzv-backend",
            "c10d",
            "--rdzv-endpoint",
            "127.0.0.1:0",
            "--local-addr",
            "127.0.0.1",
        ]
    if host == "127.0.0.1":
        variables.setdefault("GLOO_SOCKET_IFNAME", "lo")
    return [*command, *program], variables


def hand_on(number: int, frame: FrameType | None) -> None:
    """Send a signal to this process's children."""
    for child in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
        os.kill(int(child), number)


def endings(failures: Mapping[int, Any]) -> str:
    """Return how ranks ended, for one line: `rank 3: status 2, rank 5: SIGBUS`."""
    said = []
    for rank, failure in sorted(failures.items()):
        code = failure.exitcode
        ended = f"status {code}" if code >= 0 else signal.Signals(-code).name
        said.append(f"rank {rank}: {ended}")
    return ", ".join(said)


if __name__ == "__main__":
    for handled in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2):
        signal.signal(handled, hand_on)
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main

    try:
        main(["--signals-to-handle", "SIGQUIT", *sys.argv[1:]])
    except ChildFailedError as error:
        print(f"ranks of this node that failed: {endings(error.failures)}", file=sys.stderr)
        # Of several nodes the launcher says it, once all have ended and left their dumps.
        dumps = os.environ.get("TORCH_FR_DUMP_TEMP_FILE")
        hung = explain(Path(dumps).parent) if dumps and "--master-addr" not in sys.argv else None
        if hung:
            print(f"a collective hung: {hung}", file=sys.stderr)
        # The status of the rank that ended first: 2 is bad input, whatever became of the others.
        _, failure = error.get_first_failure()
        sys.exit(failure.exitcode if failure.exitcode > 0 else 128 - failure.exitcode)
