r"""Start a training program in its image: on this machine, or on every node of a Slurm job.

    python -P -m zagreus.cluster.launch --image resources/images/train-0123456789ab.sif \
        --launcher srun --nodes 8 --gres gpu:a100:8 --cpus 64
        --folder results/zagreus/pretrain/ita /opt/venv/bin/python -P scripts/pretrain.py \
            --ranks 8 ...

It runs on the host: srun is not in the images. How an image is entered stands in the environment
(ZAGREUS_CONTAINER), as does all that concerns one machine alone. With `--launcher local` it becomes
the program; with `--launcher srun` it enters the image on each node and tells the program by
arguments which node it is on (`--nodes`, `--node-number`, `--meeting`: zagreus/launch/ranks.py). A
program that was stopped by a signal and has saved makes the file ZAGREUS_STOPPED; the job is put
back into the queue then, and goes on with a new time limit.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from zagreus.cluster.allocation import Allocation, meeting_port, require_shared
from zagreus.cluster.drivers import check_here, check_nodes
from zagreus.cluster.hang import explain
from zagreus.cluster.slurm import ask, show
from zagreus.errors import InputError, run
from zagreus.launch.variables import FLIGHT_RECORDER, is_passed

PREFLIGHT = "scripts/preflight.py"
# What differs from node to node is put in there: the node's number, its name, and the GPUs that the
# step was given. slurmd itself sets these three on each node, whatever a job exports.
ENTER = """
: "${SLURM_NODEID:?srun did not say which node this is}"
export APPTAINERENV_SLURMD_NODENAME="$SLURMD_NODENAME"
export SINGULARITYENV_SLURMD_NODENAME="$SLURMD_NODENAME"
if [ -n "${CUDA_VISIBLE_DEVICES+x}" ]; then
    export APPTAINERENV_CUDA_VISIBLE_DEVICES="$CUDA_VISIBLE_DEVICES"
    export SINGULARITYENV_CUDA_VISIBLE_DEVICES="$CUDA_VISIBLE_DEVICES"
fi
exec "$@" --node-number "$SLURM_NODEID"
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--image",
        type=Path,
        help="the image; without it the program runs as it is (software: venv)",
    )
    parser.add_argument(
        "--launcher",
        choices=["local", "srun"],
        default="local",
        help="where: this machine, or the nodes of this Slurm job",
    )
    parser.add_argument("--nodes", type=int, default=1, help="nodes of the job")
    parser.add_argument(
        "--gres", default="", help="GPUs of a node, as srun wants them (gpu:a100:8)"
    )
    parser.add_argument("--cpus", type=int, default=1, help="CPUs of a node")
    parser.add_argument(
        "--folder",
        type=Path,
        required=True,
        help="folder that the program writes to; all nodes must see it",
    )
    parser.add_argument("program", nargs=argparse.REMAINDER, help="the program and its arguments")
    arguments = parser.parse_args()

    os.environ.update(
        in_image({name: value for name, value in os.environ.items() if is_passed(name)})
    )
    command = arguments.program
    if arguments.image:
        command = [
            *shlex.split(os.environ["ZAGREUS_CONTAINER"]),
            str(arguments.image.absolute()),
            *command,
        ]
    if arguments.launcher == "local":
        if arguments.nodes > 1:
            raise InputError(
                f"--nodes {arguments.nodes} with --launcher local: this machine would train alone; "
                "cluster.nodes (or cluster.posttrain_nodes) of the config is 1 on one machine"
            )
        check_here(os.environ.get("ZAGREUS_TORCH", ""))
        sys.stderr.flush()
        os.execvp(command[0], command)
    job = os.environ.get("SLURM_JOB_ID")
    if job is None:
        raise InputError("--launcher srun: this is no Slurm job (SLURM_JOB_ID is not set)")
    on_every_node(job, command, arguments)


def in_image(variables: Mapping[str, str]) -> dict[str, str]:
    """Return variables under the names by which Apptainer, or Singularity, takes them into an
    image.
    """
    return {
        f"{program}ENV_{name}": value
        for name, value in variables.items()
        for program in ("APPTAINER", "SINGULARITY")
    }


def on_every_node(job: str, command: list[str], arguments: argparse.Namespace) -> None:
    """Run the command once on each node, and exit as it did."""
    allocation = Allocation.of(job)
    if len(allocation.names) != arguments.nodes:
        raise InputError(
            f"job {job}: Slurm gave {len(allocation.names)} nodes, expected {arguments.nodes}"
        )
    # --export=ALL: a site's SLURM_EXPORT_ENV may say otherwise. --mpi=none: torchrun starts the
    # ranks.
    step = [
        "srun",
        "--export=ALL",
        "--mpi=none",
        f"--nodes={arguments.nodes}",
        f"--ntasks={arguments.nodes}",
    ]
    step += ["--ntasks-per-node=1", "--mem=0"]
    step += [
        f"--cpus-per-task={arguments.cpus}",
        *([f"--gres={arguments.gres}"] if arguments.gres else []),
    ]
    arguments.folder.mkdir(parents=True, exist_ok=True)
    require_shared(
        step,
        arguments.folder.absolute(),
        [Path(__file__).absolute(), *([arguments.image.absolute()] if arguments.image else [])],
    )

    check_nodes(os.environ.get("ZAGREUS_TORCH", ""), step)
    stopped = arguments.folder.absolute() / f".stopped-{job}"
    stopped.unlink(missing_ok=True)
    shared = {"ZAGREUS_STOPPED": str(stopped), "ZAGREUS_NODES": str(arguments.nodes)}
    # The geometry goes by arguments, and once more in the environment: where the two differ, a node
    # stops (zagreus/launch/ranks.py).
    command = [*command, "--nodes", str(arguments.nodes)]
    if arguments.nodes > 1:
        command += ["--meeting", f"{allocation.address}:{meeting_port(int(job))}"]
    environment = os.environ | shared | in_image(shared)
    # A signal for the whole job reaches the programs by itself; this process waits until they have
    # saved.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2):
        signal.signal(number, lambda *_: None)
    step += ["--kill-on-bad-exit=1", "--unbuffered"]
    preflight = preflight_command(command, arguments)
    if (
        preflight
        and subprocess.run([*step, "sh", "-c", ENTER, "sh", *preflight], env=environment).returncode
    ):
        raise InputError(
            "the nodes did not pass the preflight; what is wrong with them stands above"
        )
    status = subprocess.run([*step, "sh", "-c", ENTER, "sh", *command], env=environment).returncode
    # Pre-training has its dumps beside its checkpoints, post-training within its folder.
    for folder in (arguments.folder.parent, arguments.folder) if status else ():
        hung = explain(folder / FLIGHT_RECORDER)
        if hung:
            print(f"a collective hung: {hung}", file=sys.stderr)
    if status and stopped.exists():
        stopped.unlink()
        requeue(job)
    sys.exit(status if status >= 0 else 128 - status)


def preflight_command(command: Sequence[str], arguments: argparse.Namespace) -> list[str]:
    """Return the command that measures the nodes before a training: in its image, with its ranks.

    Empty
    where the config does not want it (`cluster.preflight: false`), and where the program is one
    itself.

    The limits come in the environment (zagreus/workflow/shell.py), so that they make nothing again.
    """
    limits = json.loads(os.environ.get("ZAGREUS_CLUSTER", "{}"))
    script = next(
        (index for index, part in enumerate(command) if part.startswith("scripts/")), None
    )
    if not limits.get("preflight", True) or script is None or command[script] == PREFLIGHT:
        return []
    options = dict(zip(command[script:], command[script + 1 :], strict=False))
    device = options.get("--device", "cuda" if arguments.gres else "cpu")
    made = [
        *command[:script],
        PREFLIGHT,
        "--ranks",
        options.get("--ranks", "1"),
        "--device",
        device,
    ]
    made += ["--shared", str(arguments.folder), "--limits", json.dumps(limits)]
    geometry = command.index("--nodes", script)
    return [*made, "--output", str(arguments.folder / "preflight.json"), *command[geometry:]]


def requeue(job: str) -> None:
    """Put this job back into the queue and wait for its end.

    Where the cluster does not want that, Snakemake's retries serve.

    Not a job that is ending already: one that was cancelled would come back to life, one that was
    requeued is in the queue.
    """
    try:
        state = show("job", job)[0]["JobState"]
        if state != "RUNNING":
            print(f"stopped by a signal; job {job} is {state.lower()}", file=sys.stderr)
            return
        ask("scontrol", "requeue", job)
    except InputError as error:
        print(f"stopped by a signal; not put back into the queue ({error})", file=sys.stderr)
        return
    print(
        f"stopped by a signal; job {job} is in the queue again and goes on from there",
        file=sys.stderr,
        flush=True,
    )
    time.sleep(300)


if __name__ == "__main__":
    run(main)
