# What jobs ask of a Slurm cluster, and what is asked of the cluster before the first of them. Where no cluster is, most of it says nothing.
import os
import time
from functools import cache
from pathlib import Path

from zagreus.cluster import slurm
from zagreus.cluster.request import Request, check_launcher, check_requests
from zagreus.cluster.runtime import job_minutes, segment_minutes, stage_minutes, step_seconds
from zagreus.errors import InputError
from zagreus.lock import try_lock

CLUSTER = config["cluster"]
# The longest time that a job may ask for, in minutes.
LONGEST = CLUSTER.get("max_minutes", 1440)
# Seconds that a killed run's jobs may take to save and end, Slurm's KillWait included.
PATIENCE = 180


def growing(megabytes):
    """Return memory that grows with each attempt."""

    def memory(wildcards, attempt):
        return megabytes * attempt

    return memory


def longer(minutes, rule=None):
    """Return a run time that doubles with each attempt, up to the longest; where jobs of the rule were timed in this run, the first attempt
    asks for what they took, with head-room."""

    def minutes_of(wildcards, attempt):
        measured = timed(rule) if rule else None
        if measured and attempt == 1:
            return min(measured, LONGEST)
        return min(max(minutes * 2 ** (attempt - 1), measured or 0), LONGEST)

    return minutes_of


@cache
def timed(rule):
    """Minutes of a job by those of its rule that were timed; None where none was. Read once, as thousands of jobs ask for it."""
    return job_minutes(Path(path("<benchmarks>")), rule)


def gpus(count):
    """Return GPUs of a node as Slurm's --gres wants them; nothing where torch runs on CPUs."""
    if config["torch"] == "cpu":
        return ""
    return ":".join(["gpu", *([CLUSTER["gpu"]] if "gpu" in CLUSTER else []), str(count)])


def gpu_slots(count):
    """Return the GPUs of a job, which `check_gpus` limits to those of this machine."""
    return 0 if config["torch"] == "cpu" else count


def training_memory(wildcards, attempt):
    """Memory of a node in megabytes: all of it on a cluster, little on one machine."""
    return CLUSTER.get("memory_mb_per_node", 3000 * attempt)


def training_minutes(wildcards, attempt):
    """Minutes of a segment by the plan, with head-room; the longest where the plan knows no speed. A segment goes on in another job."""
    steps = checkpoints(wildcards.model)
    index = steps.index(wildcards.step)
    count = int(wildcards.step) - (int(steps[index - 1]) if index else 0)
    seconds = seconds_of_step(wildcards.model)
    return LONGEST if seconds is None else min(segment_minutes(seconds, count) * attempt, LONGEST)


@cache
def seconds_of_step(model):
    """Seconds of a step of a model's training, looked up once."""
    return step_seconds(config, Path(path("<results>")), model)


def posttraining_minutes(wildcards, attempt):
    """The same of a stage of post-training, by stages with the same recipe that were timed."""
    minutes = stage_minutes(
        config,
        Path(path("<results>")),
        Path(path("<benchmarks>")),
        wildcards.model,
        wildcards.stage,
    )
    return LONGEST if minutes is None else min(minutes * attempt, LONGEST)


def check_cluster():
    """Under the slurm executor: end what a killed run left behind, choose how jobs are asked for, compare what they ask with what there is."""
    if workflow.executor_plugin.name != "slurm":
        return
    try:
        claim_folder()
        for command in ("sbatch", "srun", "squeue", "scancel", "scontrol"):
            slurm.require(command)
        end_left_over()
        if not slurm.accounting():
            workflow.executor_settings.status_command = "squeue"
            slurm.require_memory()
        jobs = [job for job in workflow.dag.needrun_jobs() if not job.is_local]
        for job in jobs:
            check_launcher(job.rule.name, job.resources.get("launcher"))
        check_requests({request(job) for job in jobs})
    except InputError as error:
        sys.exit(f"error: {error}")


def request(job):
    """Return what a job asks of the cluster."""
    asked = job.resources
    return Request(
        job.rule.name,
        str(asked.get("slurm_partition", "")),
        str(asked.get("slurm_account", "")),
        asked.get("nodes", 1),
        asked.get("gres", ""),
        asked.get("cpus_per_task", job.threads),
        asked.get("mem_mb", 0),
        asked.get("runtime", 0),
    )


def claim_folder():
    """Keep other runs out of this folder, as bin/zagreus does, which may have done it already."""
    if "ZAGREUS_CLAIMED" in os.environ:
        return
    # The descriptor stays open, and the lock with it, until this process ends.
    if try_lock(Path(os.getcwd(), ".snakemake/run.lock")) is None:
        raise InputError(
            f"{os.getcwd()}: another run is at work in this folder; wait for it or end it"
        )


def end_left_over():
    """End the jobs that an earlier run, killed itself, has left in the queue: they would write what this run's jobs write."""
    jobs = slurm.left_over(os.getcwd())
    if not jobs:
        return
    print(
        f"ending {len(jobs)} jobs that an earlier run left in the queue: {' '.join(jobs)}",
        file=sys.stderr,
    )
    slurm.cancel(jobs)
    deadline = time.time() + PATIENCE
    while left := slurm.left_over(os.getcwd()):
        if time.time() > deadline:
            raise InputError(f"jobs {' '.join(left)} of an earlier run did not end in {PATIENCE} s")
        time.sleep(1)
