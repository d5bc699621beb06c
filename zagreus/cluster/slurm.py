"""Questions to Slurm: one command each, its answer as mappings."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence

from zagreus.errors import InputError

# A controller that does not answer by then is down.
PATIENCE = 60


def require(command: str) -> None:
    """Raise `InputError` where a command of Slurm's is missing."""
    if shutil.which(command) is None:
        raise InputError(
            f"{command}: not found on PATH; Slurm's commands are needed where Snakemake and its "
            "jobs run"
        )


def ask(*command: str) -> str:
    """Return what a command of Slurm's prints.

    Raises:
        InputError: the command is missing, fails, or does not answer.
    """
    require(command[0])
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        raise InputError(
            f"{' '.join(command)}: no answer in {PATIENCE} s; is the cluster's controller up?"
        ) from None
    if done.returncode:
        raise InputError(
            f"{' '.join(command)}: "
            f"{' '.join(done.stderr.split()) or f'failed with status {done.returncode}'}"
        )
    return done.stdout


def show(kind: str, *names: str) -> list[dict[str, str]]:
    """Return what `scontrol show` says of all things of a kind, or of some by name.

    A value ends where the next ` KEY=` begins: some hold spaces (OS=Linux 6.1 ...).
    """
    records = []
    for line in ask("scontrol", "--oneliner", "show", kind, *names).splitlines():
        fields = re.findall(r"(\S+?)=(.*?)(?=\s+[A-Za-z_/:]+=|\s*$)", line)
        if fields:
            records.append(dict(fields))
    return records


def accounting() -> bool:
    """Return whether jobs can be asked for by sacct.

    Without it sacct is often installed all the same, and every question fails.
    """
    if shutil.which("sacct") is None:
        return False
    try:
        ask("sacct", "--noheader", "--allocations", "--starttime=now")
    except InputError:
        return False
    return True


def setting(name: str) -> str:
    """Return a setting of slurm.conf; empty where there is none of that name."""
    match = re.search(rf"^{name}\s*= (.*)$", ask("scontrol", "show", "config"), re.MULTILINE)
    return match[1].strip() if match else ""


def require_memory() -> None:
    """Raise `InputError` where a cluster without accounting forgets a job that ended before squeue
    is asked again: up to 180 s later.
    """
    match = re.match(r"\d+", setting("MinJobAge"))
    if match and int(match[0]) < 200:
        raise InputError(
            f"MinJobAge is {match[0]} s in this cluster's slurm.conf and sacct does not work: a "
            "job that ended could be missed, and the run "
            "would wait for ever; one of the two is needed (MinJobAge of 300 s is Slurm's default)"
        )


def left_over(folder: str) -> list[str]:
    """Return the jobs of the workflow that were submitted from a folder and have not ended.

    Their ids.
    """
    jobs = []
    for line in ask("squeue", "--me", "--noheader", "--format=%A|%k|%Z").splitlines():
        number, comment, directory = line.split("|", 2)
        if comment.startswith(("rule_", "group_")) and directory == folder:
            jobs.append(number)
    return sorted(set(jobs))


def cancel(jobs: Sequence[str]) -> None:
    """Ask jobs to end; they have the cluster's KillWait to save what they have."""
    ask("scancel", *jobs)
