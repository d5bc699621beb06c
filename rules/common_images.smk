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
from zagreus.platform import naming
from zagreus.platform.base import GPU_PACKAGES
from zagreus.platform.builds import BUILDS, build_of, device_of, on_gpus
from zagreus.platform.digest import digest
from zagreus.platform.driver import check_driver, driver_version
from zagreus.platform.image_manifest import check_architecture, manifest_of, read_image_manifest
from zagreus.platform.state import read_platform
from zagreus.platform.wheels import IMAGE_PYTHON, running_python
from zagreus.variables import PORTABLE, PORTABLE_IMAGES, with_variables

PLATFORM = read_platform()
try:
    # The build of torch that the images hold, and what they stand on.
    FLAVOUR = naming.flavour(config["torch"], PLATFORM)
    BASE = (
        naming.base_of(Path(config["pathvars"]["resources"]), PLATFORM)
        if config["software"] == "apptainer"
        else None
    )
except InputError as error:
    sys.exit(f"error: {error}")
# The Python that the wheels are for.
WHEELS_PYTHON = IMAGE_PYTHON if config["software"] == "apptainer" else running_python()


def lock_of(name):
    """Return an image's lock file."""
    return str(naming.lock_of(name, FLAVOUR))


def base_image(name):
    """Return the base image that an image stands on."""
    return f"<resources>/images/base-{BASE.digest(naming.needs_gpu_packages(name, FLAVOUR))}.sif"


def base_arguments(wildcards):
    """Return where a base image comes from, and what is installed in it."""
    gpu = wildcards.digest == BASE.digest(True) and wildcards.digest != BASE.digest(False)
    if not gpu and wildcards.digest != BASE.digest(False):
        raise WorkflowError(
            f"base image {wildcards.digest}: the files in containers/ give {BASE.digest(False)}"
        )
    packages = ["containers/base.packages"] if BASE.source == "archive" else []
    packages += [str(GPU_PACKAGES)] if gpu and BASE.source != "file" else []
    arguments = [f"--source {BASE.source}", "--insecure" if BASE.insecure else ""]
    arguments.append(f"--reference {shlex.quote(BASE.reference)}" if BASE.reference else "")
    arguments.append(f"--packages {' '.join(packages)}" if packages else "")
    return " ".join(filter(None, arguments))


def digest_of(name):
    """Return the twelve digits over all that an image, or a virtual environment, is made of."""
    if config["software"] == "venv":
        return naming.environment_digest(name, FLAVOUR)
    return naming.image_digest(name, FLAVOUR, BASE)


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
    if (
        config["software"] == "apptainer"
        and DeploymentMethod.APPTAINER not in workflow.deployment_settings.deployment_method
    ):
        sys.exit(
            "error: the config says `software: apptainer`, so give --sdm apptainer (a profile does), or --config software=venv"
        )
    for name in naming.NAMES if config["software"] == "apptainer" else ():
        # Made here or copied from another machine, which may be of another kind.
        place = Path(container(name))
        if place.exists() and manifest_of(place).exists():
            try:
                check_architecture(read_image_manifest(place), place)
            except InputError as error:
                sys.exit(f"error: {error}")


def check_gpus():
    """Stop a run on this machine whose driver is too old for the build of torch. On a cluster the nodes' drivers are compared before each
    training (zagreus/cluster/launch.py)."""
    if workflow.executor_plugin.name == "slurm":
        return
    try:
        build = build_of(config["torch"])
        if build.driver:
            check_driver(build, driver_version())
    except InputError as error:
        sys.exit(f"error: {error}")


def python(name):
    """Return the command that runs a script in an image, or with `host` on the host.

    Where the host's is stands in the environment: another path to it is no reason to make anything again.
    -P: a script's own folder is not searched, or scripts/tokenize.py would stand for the standard library's tokenize.
    """
    if name == "host":
        return '"$ZAGREUS_PYTHON" -P'
    command = "/opt/venv/bin/python -P"
    if config["software"] == "venv":
        command = path(f"<resources>/venvs/{name}-{digest_of(name)}/bin/python -P")
    if config.get("portable") and name in PORTABLE_IMAGES:
        return with_variables(PORTABLE, command)
    return command


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
    """Return the list of a lock's wheels for the Python that will install them."""
    return f"<resources>/wheels/{Path(lock).stem}-py{WHEELS_PYTHON}-{digest([Path(lock)])}.json"


def wheelhouse_list(wildcards):
    """Return the list of the wheels that an image is built from."""
    return wheel_list(current(wildcards))


def pip_arguments(wildcards):
    return " ".join(shlex.quote(f"--pip={argument}") for argument in PLATFORM["pip"])


def download_disk(wildcards):
    return BUILDS[FLAVOUR].download_mb


def build_disk(wildcards):
    return BUILDS[FLAVOUR].build_mb


# One --bind for each, in what every job's image is started with. (A job on a cluster is given the arguments of the run, these among them.)
try:
    OUTSIDE = (
        outside_paths(config, workflow.configfiles) if config["software"] == "apptainer" else []
    )
except InputError as error:
    sys.exit(f"error: {error}")
for place in OUTSIDE:
    bind = f"--bind {shlex.quote(place)}"
    if bind not in workflow.deployment_settings.apptainer_args:
        workflow.deployment_settings.apptainer_args += f" {bind}"


def git_commit():
    """Return the commit of this repository; images hold no git."""
    found = subprocess.run(
        ["git", "-C", workflow.basedir, "rev-parse", "HEAD"], capture_output=True, text=True
    )
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
    + f" ZAGREUS_CONTAINER={shlex.quote(entering())} ZAGREUS_CLUSTER={cluster_argument()}"
    + f" ZAGREUS_TORCH={config['torch']}; "
)
# --cleanenv keeps the host's environment out of the images; what the network needs is let in, unseen on command lines
# (zagreus/network.py), and which of a node's GPUs are the job's.
into_images()
for variable in ("CUDA_VISIBLE_DEVICES",):
    if variable in os.environ:
        os.environ[f"APPTAINERENV_{variable}"] = os.environ[variable]
