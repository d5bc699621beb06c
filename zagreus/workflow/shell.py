"""The environment of every job: the prefix of its shell line, and what its image sees."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, MutableMapping
from pathlib import Path

from zagreus.config.outside import outside_paths
from zagreus.network import into_images
from zagreus.platform.builds import on_gpus
from zagreus.workflow.interface import Config


def folders_to_bind(config: Config, files: Iterable[str | Path]) -> list[str]:
    """Return the folders outside the repository that images must see; none without images.

    Args:
        config: the checked configuration.
        files: the files that it was read from.

    Raises:
        InputError: a path that no image can be given.
    """
    return outside_paths(config, files) if config["software"] == "apptainer" else []


def bound(apptainer_args: str, folders: Iterable[str], torch: str) -> str:
    """Return the arguments of every image with a --bind for each folder, and --nv for GPUs.

    --nv brings the libraries of the machine's NVIDIA driver into the image. A job on a cluster is
    given the arguments of the run, these among them.

    Args:
        apptainer_args: what the profile and the command line say.
        folders: the folders outside the repository that the images must see.
        torch: the configuration's build of torch.
    """
    if on_gpus(torch) and "--nv" not in apptainer_args.split():
        apptainer_args += " --nv"
    for folder in folders:
        bind = f"--bind {shlex.quote(folder)}"
        if bind not in apptainer_args:
            apptainer_args += f" {bind}"
    return apptainer_args


def shell_prefix(config: Config, repository: str, apptainer_args: str) -> str:
    """Return what stands before every shell line, inside an image or not.

    The library is seen from the repository, never baked into an image.

    Args:
        config: the checked configuration.
        repository: the folder of the Snakefile.
        apptainer_args: Snakemake's arguments of every image.
    """
    enter = _enter_command(apptainer_args)
    # Snakemake formats the prefix, so that braces are doubled.
    cluster = shlex.quote(json.dumps(config["cluster"])).replace("{", "{{").replace("}", "}}")
    parts = ["set -euo pipefail"]
    if config["software"] == "venv":
        parts.append(". containers/environment.sh")
    return "; ".join(
        [
            *parts,
            # The modules of a site set these. --cleanenv keeps them out of images.
            "unset PYTHONHOME PYTHONSTARTUP PYTHONUSERBASE PYTHONPLATLIBDIR",
            "export PYTHONNOUSERSITE=1 PYTHONPATH=$PWD"
            f" ZAGREUS_PYTHON={shlex.quote(sys.executable)}"
            f" ZAGREUS_COMMIT={_git_commit(repository)}"
            f" ZAGREUS_CONTAINER={shlex.quote(enter)}"
            f" ZAGREUS_CLUSTER={cluster} ZAGREUS_TORCH={config['torch']}",
            "",
        ]
    )


def pass_environment(environment: MutableMapping[str, str] = os.environ) -> None:
    """Let images see the variables of the network, and which GPUs are the job's.

    --cleanenv keeps the host's environment out of images.
    """
    into_images(environment)
    if "CUDA_VISIBLE_DEVICES" in environment:
        gpus = environment["CUDA_VISIBLE_DEVICES"]
        environment["APPTAINERENV_CUDA_VISIBLE_DEVICES"] = gpus


def _enter_command(apptainer_args: str) -> str:
    """Return how a command of the host enters an image, as Snakemake itself does it.

    The path of the image follows.
    """
    program = "apptainer" if shutil.which("apptainer") else "singularity"
    return f"{program} exec --home {shlex.quote(os.getcwd())} {apptainer_args}"


def _git_commit(repository: str) -> str:
    """Return the commit of the repository, which images do not see; empty without git."""
    done = subprocess.run(
        ["git", "-C", repository, "rev-parse", "HEAD"], capture_output=True, text=True
    )
    return done.stdout.strip()
