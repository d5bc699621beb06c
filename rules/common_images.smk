# What the rules ask about images, or the same locks as virtual environments (`software: venv`).
import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from snakemake_interface_executor_plugins.settings import DeploymentMethod

from zagreus.errors import InputError
from zagreus.network import into_images
from zagreus.outside import outside_paths
from zagreus.platform.digest import digest
from zagreus.platform.state import read_platform

PLATFORM = read_platform()
BASE_PARTS = ("containers/base.def", "containers/base.packages", "containers/environment.sh")
# Room in megabytes: to fetch the wheels, to build (the wheels unpacked twice and packed once).
DOWNLOAD_DISK = {"cpu": 1500, "cuda": 6000}
BUILD_DISK = {"cpu": 5000, "cuda": 25000}


def flavour(name):
    """Return the build of torch that an image holds: where no CPU build can be had, the set-up chose the CUDA one."""
    return PLATFORM["cpu_torch"] if config["torch"] == "cpu" else config["torch"]


def lock_of(name):
    """Return an image's lock file; `data` holds no torch and has one lock."""
    return "envs/data.lock" if name == "data" else f"envs/{name}.{flavour(name)}.lock"


def base_digest():
    """Return the twelve digits over all that the base image is made of."""
    return digest([Path(part) for part in BASE_PARTS])


def digest_of(name):
    """Return the twelve digits over all that an image is made of."""
    parts = (*BASE_PARTS, "containers/install.sh", "envs/build.lock", f"containers/{name}.def", lock_of(name))
    return digest([Path(part) for part in parts])


def image(name):
    """Return the file that stands for an image among a rule's inputs: the image, or what tells that it is complete."""
    if config["software"] == "venv":
        return path(f"<resources>/venvs/{name}-{digest_of(name)}/complete")
    suffix = "sif" if PLATFORM["image"] == "sif" else "json"
    return path(f"<resources>/images/{name}-{digest_of(name)}.{suffix}")


def container(name):
    """Return the image for `container:`: a SIF, a folder where the machine cannot mount one, None without images."""
    if config["software"] == "venv":
        return None
    suffix = ".sif" if PLATFORM["image"] == "sif" else ""
    return path(f"<resources>/images/{name}-{digest_of(name)}{suffix}")


def check_containers():
    """Stop a run that was not told to use containers: its jobs must not run on the host in silence."""
    if config["software"] == "apptainer" and DeploymentMethod.APPTAINER not in workflow.deployment_settings.deployment_method:
        sys.exit("error: the config says `software: apptainer`, so give --sdm apptainer (a profile does), or --config software=venv")


def python(name):
    """Return the command that runs a script in an image, or with `host` on the host.

    Where the host's is stands in the environment: another path to it is no reason to make anything again.
    -P: a script's own folder is not searched, or scripts/tokenize.py would stand for the standard library's tokenize.
    """
    if name == "host":
        return '"$ZAGREUS_PYTHON" -P'
    if config["software"] == "venv":
        return path(f"<resources>/venvs/{name}-{digest_of(name)}/bin/python -P")
    return "/opt/venv/bin/python -P"


def launch(name):
    """Return the command that starts a program of an image from the host, on one machine or on many."""
    program = '"$ZAGREUS_PYTHON" -P -m zagreus.cluster.launch'
    return program if config["software"] == "venv" else f"{program} --image {container(name)}"


def current(wildcards):
    """Return an image's lock, definition and base; an image of another digest than today's files give cannot be made from them."""
    if wildcards.digest != digest_of(wildcards.name):
        raise WorkflowError(
            f"image {wildcards.name}-{wildcards.digest}: the files in envs/ and containers/ give {digest_of(wildcards.name)}"
        )
    return lock_of(wildcards.name)


def wheel_list(lock):
    """Return the list of a lock's wheels."""
    return f"<resources>/wheels/{Path(lock).stem}-{digest([Path(lock)])}.json"


def wheelhouse_list(wildcards):
    """Return the list of the wheels that an image is built from."""
    return wheel_list(current(wildcards))


def pip_arguments(wildcards):
    return " ".join(shlex.quote(f"--pip={argument}") for argument in PLATFORM["pip"])


def download_disk(wildcards):
    return DOWNLOAD_DISK[flavour("")]


def build_disk(wildcards):
    return BUILD_DISK[flavour("")]


# One --bind for each, in what every job's image is started with. (A job on a cluster is given the arguments of the run, these among them.)
try:
    OUTSIDE = outside_paths(config, workflow.configfiles) if config["software"] == "apptainer" else []
except InputError as error:
    sys.exit(f"error: {error}")
for place in OUTSIDE:
    bind = f"--bind {shlex.quote(place)}"
    if bind not in workflow.deployment_settings.apptainer_args:
        workflow.deployment_settings.apptainer_args += f" {bind}"


def git_commit():
    """Return the commit of this repository; images hold no git."""
    found = subprocess.run(["git", "-C", workflow.basedir, "rev-parse", "HEAD"], capture_output=True, text=True)
    return found.stdout.strip()


def entering():
    """Return how a host's command enters an image, before the image's path: as Snakemake itself does it."""
    program = "apptainer" if shutil.which("apptainer") else "singularity"
    return f"{program} exec --home {shlex.quote(os.getcwd())} {workflow.deployment_settings.apptainer_args}"


def cluster_argument():
    """Return the `cluster` section as one argument of a shell line; Snakemake formats it, so that braces are doubled."""
    return shlex.quote(json.dumps(config["cluster"])).replace("{", "{{").replace("}", "}}")


# Before every shell line, inside the image or not. The library is seen from the repository, never baked into an image.
shell.prefix(
    "set -euo pipefail; "
    + (". containers/environment.sh; " if config["software"] == "venv" else "")
    # A site's modules set these; in the images --cleanenv keeps them out.
    + "unset PYTHONHOME PYTHONSTARTUP PYTHONUSERBASE PYTHONPLATLIBDIR; "
    + f"export PYTHONNOUSERSITE=1 PYTHONPATH=$PWD ZAGREUS_PYTHON={shlex.quote(sys.executable)} ZAGREUS_COMMIT={git_commit()}"
    + f" ZAGREUS_CONTAINER={shlex.quote(entering())} ZAGREUS_CLUSTER={cluster_argument()}; "
)
# --cleanenv keeps the host's environment out of the images; what the network needs is let in, unseen on command lines
# (zagreus/network.py), and which of a node's GPUs are the job's.
into_images()
for variable in ("CUDA_VISIBLE_DEVICES",):
    if variable in os.environ:
        os.environ[f"APPTAINERENV_{variable}"] = os.environ[variable]
