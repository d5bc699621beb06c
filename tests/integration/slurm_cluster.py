"""A Slurm cluster on one machine.

Eight nodes with eight GPUs each, from Debian's packages, in folders and on ports of its own.

Nothing of it is simulated but the hardware: the GPUs are device files that lead nowhere, and the
nodes claim more CPUs and memory than the machine has. A job that takes more memory than it asked
for is killed, as at a site: Slurm looks every two seconds (OverMemoryKill), as cgroups need a
systemd that many test machines do not have.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import stat
import subprocess
import time
from pathlib import Path

import debian_packages
import psutil

COMMANDS = ("sbatch", "srun", "scancel", "scontrol", "squeue", "sinfo", "sacct")
NODES = [f"a100-{number:02}" for number in range(1, 9)]
GPUS = 8

CONF = """ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=6
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdSpoolDir={folder}/spool-%n
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmdLogFile={folder}/slurmd-%n.log
SlurmdParameters=config_overrides
SlurmdTimeout=10
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=2
JobAcctGatherParams=OverMemoryKill,NoShared
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
GresTypes=gpu
ReturnToService=2
MinJobAge=300
KillWait=20
SchedulerParameters=sched_min_interval=100000,batch_sched_delay=0,sched_interval=2,bf_interval=2
{further}
{nodes}
PartitionName=a100 Nodes=ALL Default={default} MaxTime=1-00:00:00
PartitionName=short Nodes=a100-[01-02] MaxTime=00:30:00
"""


def install() -> str | None:
    """Install Slurm where it is missing; return why there can be none here."""
    programs = ("slurmctld", "slurmd", "munged", "srun")
    problem = debian_packages.install(("slurm-wlm", "munge"), programs)
    return problem or ("slurmd runs only as root" if os.geteuid() else None)


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for endpoint in sockets:
            endpoint.bind(("127.0.0.1", 0))
        return [endpoint.getsockname()[1] for endpoint in sockets]


class SlurmCluster:
    """The daemons. `environment` is what a user of the cluster has.

    The commands, and where they find their configuration.
    """

    def __init__(self, folder: Path, default_partition: bool = True, further: str = "") -> None:
        """Write the configuration; `further` are lines of slurm.conf."""
        self.folder, self.daemons, self.nodes = (
            folder,
            dict[str, subprocess.Popen[bytes]](),
            dict[str, subprocess.Popen[bytes]](),
        )
        folder.mkdir(parents=True)
        (folder / "state").mkdir()
        for number in range(GPUS):
            os.mknod(folder / f"nvidia{number}", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        port, *ports = free_ports(1 + len(NODES))
        nodes = "\n".join(
            f"NodeName={name} NodeHostname={socket.gethostname()} NodeAddr=127.0.0.1 "
            f"Port={number} CPUs=64 RealMemory=500000"
            f" Gres=gpu:a100:{GPUS}"
            for name, number in zip(NODES, ports)
        )
        default = "YES" if default_partition else "NO"
        text = CONF.format(
            host=socket.gethostname(),
            port=port,
            folder=folder,
            nodes=nodes,
            default=default,
            further=further,
        )
        (folder / "slurm.conf").write_text(text)
        gres = f"NodeName={','.join(NODES)} Name=gpu Type=a100 File={folder}/nvidia[0-{GPUS - 1}]\n"
        (folder / "gres.conf").write_text(gres)
        # The plugin takes all of Slurm's variables from a job's environment, SLURM_CONF among them:
        # the commands bring it themselves.
        (folder / "bin").mkdir()
        for command in COMMANDS:
            starter = folder / "bin" / command
            starter.write_text(
                f'#!/bin/sh\nSLURM_CONF={folder}/slurm.conf exec {shutil.which(command)} "$@"\n'
            )
            starter.chmod(0o755)
        self.environment = os.environ | {
            "PATH": f"{folder}/bin:{os.environ['PATH']}",
            "SLURM_CONF": str(folder / "slurm.conf"),
        }

    def start(self) -> None:
        """Start all daemons, and wait until the nodes are there."""
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        own = {
            "key-file": key,
            "socket": self.folder / "munge.socket",
            "pid-file": self.folder / "munge.pid",
        }
        own |= {"log-file": self.folder / "munge.log", "seed-file": self.folder / "munge.seed"}
        self._daemon(
            "munged", "--foreground", "--force", *(f"--{name}={path}" for name, path in own.items())
        )
        _wait(lambda: (self.folder / "munge.socket").exists(), 10, "munged")
        self._daemon("slurmctld", "-D", "-i")
        for name in NODES:
            self.start_node(name)
        _wait(lambda: self.idle() == len(NODES), 30, "the nodes")

    def start_node(self, name: str, *before: str) -> None:
        """Start a node; `before` is a command that starts it (unshare, for one)."""
        self.nodes[name] = self._spawn(*before, _program_path("slurmd"), "-D", "-N", name)

    def kill_node(self, name: str) -> None:
        """A node goes down: its daemon and all that runs on it die at once."""
        self.nodes[name].kill()
        self.nodes[name].wait()
        for process in self._stepds(name):
            for victim in [process, *process.children(recursive=True)]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    victim.kill()

    def run(self, *command: str) -> str:
        """Run a command of Slurm's and return what it prints."""
        return subprocess.run(
            command, env=self.environment, check=True, capture_output=True, text=True
        ).stdout

    def idle(self) -> int:
        """Return how many nodes wait for work."""
        done = subprocess.run(
            ["sinfo", "-h", "-p", "a100", "-t", "idle", "-o", "%D"],
            env=self.environment,
            capture_output=True,
            text=True,
        )
        return int(done.stdout.strip() or 0)

    def jobs(self) -> list[dict[str, str]]:
        """Return all jobs that the controller knows, as `scontrol show job` has them.

        `_detail` is the whole line.
        """
        lines = self.run("scontrol", "--oneliner", "--detail", "show", "job").splitlines()
        fields = [
            dict(field.split("=", 1) for field in line.split() if "=" in field)
            for line in lines
            if line.startswith("JobId=")
        ]
        return [job | {"_detail": line} for job, line in zip(fields, filter(None, lines))]

    def stop(self) -> None:
        """End all jobs and daemons, by their process ids."""
        with contextlib.suppress(subprocess.SubprocessError):
            subprocess.run(["scancel", "--user=root"], env=self.environment, timeout=20)
            deadline = time.time() + 25
            while time.time() < deadline and self._stepds(""):
                time.sleep(0.2)
        for process in [*self.nodes.values(), *reversed(self.daemons.values())]:
            process.terminate()
        for process in [*self.nodes.values(), *self.daemons.values()]:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
        for process in self._stepds(""):
            for victim in [*process.children(recursive=True), process]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    victim.kill()

    def _stepds(self, node: str) -> list[psutil.Process]:
        """Return the processes that hold this cluster's job steps, of one node or (an empty name)
        of all.
        """
        processes = []
        for process in psutil.process_iter(["name"]):
            if process.info["name"] == "slurmstepd":
                with contextlib.suppress(psutil.Error):
                    if any(
                        f"{self.folder}/slurmd-{node}" in opened.path
                        for opened in process.open_files()
                    ):
                        processes.append(process)
        return processes

    def _daemon(self, name: str, *arguments: str) -> None:
        self.daemons[name] = self._spawn(_program_path(name), *arguments)

    def _spawn(self, *command: str) -> subprocess.Popen[bytes]:
        with open(self.folder / "daemons.log", "ab") as log:
            return subprocess.Popen(
                command,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=_end_with_parent,
            )


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(
        1, signal.SIGTERM
    )  # PR_SET_PDEATHSIG: a killed test run leaves no daemon behind


def _program_path(name: str) -> str:
    path = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")
    assert path, name
    return path


def _wait(done: object, seconds: float, what: str) -> None:
    deadline = time.time() + seconds
    while not done():  # type: ignore[operator]
        assert time.time() < deadline, f"{what} did not come up in {seconds} s"
        time.sleep(0.1)
