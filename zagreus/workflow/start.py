"""Checks before the first job of a run: folders, images, drivers, limits, the Slurm cluster."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from zagreus.cluster import slurm
from zagreus.cluster.request import Request, check_launcher, check_requests
from zagreus.errors import InputError
from zagreus.launch.gpus import SHARED, gpus_here, require_gpus
from zagreus.lock import try_lock
from zagreus.platform import naming
from zagreus.platform.builds import build_of
from zagreus.platform.driver import check_driver, driver_version
from zagreus.platform.image_manifest import check_architecture, manifest_of, read_image_manifest
from zagreus.workflow.images import Images
from zagreus.workflow.interface import Config

# Seconds that a killed run's jobs may take to save and end, Slurm's KillWait included.
END_SECONDS = 180
COMMANDS = ("sbatch", "srun", "squeue", "scancel", "scontrol")


def make_folders(folders: Iterable[str]) -> None:
    """Make the folders that are bound into images, where they are not there.

    Raises:
        InputError: a folder cannot be made.
    """
    for folder in folders:
        try:
            if not os.path.exists(folder):
                os.makedirs(folder)
        except OSError as error:
            raise InputError(f"{folder}: cannot be made ({error.strerror})") from None


def check_images(images: Images, enabled: bool) -> None:
    """Check that jobs run in images, and that the images are for this kind of machine.

    Args:
        images: the images of the run.
        enabled: whether Snakemake was told to use Apptainer.

    Raises:
        InputError: without it, jobs would run on the host in silence.
    """
    if images.base is None:
        return
    if not enabled:
        raise InputError(
            "the config says `software: apptainer`, so give --sdm apptainer (a profile does), or "
            "--config software=venv"
        )
    for name in naming.NAMES:
        # Made here or copied from another machine, which may be of another kind.
        image = Path(str(images.container(name)))
        if image.exists() and manifest_of(image).exists():
            check_architecture(read_image_manifest(image), image)


def share_gpus(config: Config, workflow: Any) -> None:
    """Check this machine's driver and GPUs, and let the jobs of the run share the GPUs.

    On a cluster each training compares the drivers of its nodes (zagreus/cluster/launch.py), and
    Slurm gives each job its GPUs.

    Args:
        config: the checked configuration.
        workflow: Snakemake's workflow, which then starts no more jobs than there are GPUs.

    Raises:
        InputError: the driver is too old, or a job needs more GPUs than the machine has.
    """
    build = build_of(config["torch"])
    if not build.driver:
        return
    check_driver(build, driver_version())
    needed = workflow.dag.needrun_jobs()
    here = gpus_here()
    slots = ((job.rule.name, job.resources.get("gpu_slots", 0)) for job in needed)
    require_gpus(here, slots, config["torch"])
    workflow.register_resource("gpu_slots", len(here))
    for variable in (SHARED, f"APPTAINERENV_{SHARED}", f"SINGULARITYENV_{SHARED}"):
        os.environ[variable] = ",".join(here)


def check_cluster(workflow: Any) -> None:
    """Check a run under the slurm executor, and end the jobs that a killed run left behind.

    Args:
        workflow: Snakemake's workflow; its status command becomes squeue where Slurm keeps no
            accounts.

    Raises:
        InputError: another run in this folder, no Slurm, or a job that no node can run.
    """
    claim_folder()
    for command in COMMANDS:
        slurm.require(command)
    end_left_over()
    if not slurm.accounting():
        workflow.executor_settings.status_command = "squeue"
        slurm.require_memory()
    jobs = [job for job in workflow.dag.needrun_jobs() if not job.is_local]
    for job in jobs:
        check_launcher(job.rule.name, job.resources.get("launcher"))
    check_requests({request_of(job) for job in jobs})


def request_of(job: Any) -> Request:
    """Return what a job of Snakemake asks of the cluster."""
    resources = job.resources
    return Request(
        job.rule.name,
        str(resources.get("slurm_partition", "")),
        str(resources.get("slurm_account", "")),
        resources.get("nodes", 1),
        resources.get("gres", ""),
        resources.get("cpus_per_task", job.threads),
        resources.get("mem_mb", 0),
        resources.get("runtime", 0),
    )


def claim_folder() -> None:
    """Keep other runs out of this folder. bin/zagreus may have done it already.

    The lock lasts until this process ends: its descriptor stays open.

    Raises:
        InputError: another run has the folder.
    """
    if "ZAGREUS_CLAIMED" in os.environ:
        return
    folder = os.getcwd()
    if try_lock(Path(folder, ".snakemake/run.lock")) is None:
        raise InputError(f"{folder}: another run is at work in this folder; wait for it or end it")


def end_left_over() -> None:
    """End the jobs of an earlier run that are still in the queue.

    They would write the files that the jobs of this run write.

    Raises:
        InputError: they did not end in time.
    """
    folder = os.getcwd()
    jobs = slurm.left_over(folder)
    if not jobs:
        return
    print(
        f"ending {len(jobs)} jobs that an earlier run left in the queue: {' '.join(jobs)}",
        file=sys.stderr,
    )
    slurm.cancel(jobs)
    deadline = time.time() + END_SECONDS
    while left := slurm.left_over(folder):
        if time.time() > deadline:
            raise InputError(
                f"jobs {' '.join(left)} of an earlier run did not end in {END_SECONDS} s"
            )
        time.sleep(1)
