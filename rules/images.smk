# Images, or the same locks as virtual environments (`software: venv`). What stands here runs on the host.
import os
import shlex
import subprocess
import sys
from pathlib import Path

from snakemake_interface_executor_plugins.settings import DeploymentMethod

from zagreus import __version__
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


def python(name):
    """Return the command that runs a script in an image, or with `host` on the host.

    -P: a script's own folder is not searched, or scripts/tokenize.py would stand for the standard library's tokenize.
    """
    if name == "host":
        return f"{sys.executable} -P"
    if config["software"] == "venv":
        return path(f"<resources>/venvs/{name}-{digest_of(name)}/bin/python -P")
    return "/opt/venv/bin/python -P"


def current(wildcards):
    """Return an image's lock, definition and base; an image of another digest than today's files give cannot be made from them."""
    if wildcards.digest != digest_of(wildcards.name):
        raise WorkflowError(
            f"image {wildcards.name}-{wildcards.digest}: the files in envs/ and containers/ give {digest_of(wildcards.name)}"
        )
    return lock_of(wildcards.name)


def wheelhouse_list(wildcards):
    """Return the list of the wheels that an image is built from."""
    return f"<resources>/wheels/{Path(current(wildcards)).stem}.json"


def pip_arguments(wildcards):
    return " ".join(shlex.quote(f"--pip={argument}") for argument in PLATFORM["pip"])


def download_disk(wildcards):
    return DOWNLOAD_DISK[flavour("")]


def build_disk(wildcards):
    return BUILD_DISK[flavour("")]


def git_commit():
    """Return the commit of this repository; images hold no git."""
    found = subprocess.run(["git", "-C", workflow.basedir, "rev-parse", "HEAD"], capture_output=True, text=True)
    return found.stdout.strip()


# Before every shell line, inside the image or not. The library is seen from the repository, never baked into an image.
shell.prefix(
    "set -euo pipefail; "
    + (". containers/environment.sh; " if config["software"] == "venv" else "")
    + f"export PYTHONPATH=$PWD ZAGREUS_COMMIT={git_commit()}; "
)
# --cleanenv keeps the host's environment out of the images; the token for gated repositories is let in, unseen on command lines.
if "HF_TOKEN" in os.environ:
    os.environ["APPTAINERENV_HF_TOKEN"] = os.environ["HF_TOKEN"]


onstart:
    if config["software"] == "apptainer" and DeploymentMethod.APPTAINER not in workflow.deployment_settings.deployment_method:
        sys.exit("error: the config says `software: apptainer`, so give --sdm apptainer (a profile does), or --config software=venv")


wildcard_constraints:
    name="data|train|posttrain|evaluate",
    digest="[0-9a-f]{12}",


rule wheelhouse:
    input:
        "envs/{lock}.lock",
    output:
        "<resources>/wheels/{lock}.json",
    log:
        "<logs>/wheelhouse/{lock}.log",
    benchmark:
        "<benchmarks>/wheelhouse/{lock}.tsv"
    localrule: True
    resources:
        mem_mb=1000,
        runtime=120,
    params:
        python=python("host"),
        folder=path("<resources>/wheels"),
        pip=pip_arguments,
        disk=download_disk,
    shell:
        "{params.python} scripts/wheelhouse.py --lock {input} --folder {params.folder} --disk {params.disk} {params.pip}"
        " --output {output} 2>&1 | tee {log}"


rule base_image:
    input:
        definition="containers/base.def",
        packages="containers/base.packages",
        environment="containers/environment.sh",
    output:
        "<resources>/images/base-{digest}.sif",
    log:
        "<logs>/base_image/{digest}.log",
    benchmark:
        "<benchmarks>/base_image/{digest}.tsv"
    localrule: True
    threads: 2
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        python=python("host"),
        version=__version__,
    shell:
        "{params.python} scripts/base_image.py --definition {input.definition} --packages {input.packages} --digest {wildcards.digest}"
        " --version {params.version} --output {output} 2>&1 | tee {log}"


# Two threads: on a small machine one image at a time, or their work files would fill the disk together.
rule image:
    input:
        lock=current,
        build_lock="envs/build.lock",
        wheels=wheelhouse_list,
        build_wheels="<resources>/wheels/build.json",
        base=f"<resources>/images/base-{base_digest()}.sif",
        definition="containers/{name}.def",
        install="containers/install.sh",
    output:
        f"<resources>/images/{{name}}-{{digest}}.{'sif' if PLATFORM['image'] == 'sif' else 'json'}",
    log:
        "<logs>/image/{name}-{digest}.log",
    benchmark:
        "<benchmarks>/image/{name}-{digest}.tsv"
    localrule: True
    threads: 2
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        python=python("host"),
        wheels=path("<resources>/wheels"),
        version=__version__,
        disk=build_disk,
    shell:
        "{params.python} scripts/image.py --name {wildcards.name} --definition {input.definition} --base {input.base} --lock {input.lock}"
        " --build-lock {input.build_lock} --wheels {params.wheels} --digest {wildcards.digest} --version {params.version}"
        " --disk {params.disk} --output {output} 2>&1 | tee {log}"


rule environment:
    input:
        lock=current,
        build_lock="envs/build.lock",
        wheels=wheelhouse_list,
        build_wheels="<resources>/wheels/build.json",
    output:
        "<resources>/venvs/{name}-{digest}/complete",
    log:
        "<logs>/environment/{name}-{digest}.log",
    benchmark:
        "<benchmarks>/environment/{name}-{digest}.tsv"
    localrule: True
    threads: 2
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        python=python("host"),
        wheels=path("<resources>/wheels"),
        disk=build_disk,
    shell:
        "{params.python} scripts/environment.py --lock {input.lock} --build-lock {input.build_lock} --wheels {params.wheels}"
        " --disk {params.disk} --output {output} 2>&1 | tee {log}"
