"""Starting a script in its image, from the command line of a user.

What a rule does, without Snakemake.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from zagreus.errors import InputError
from zagreus.network import into_images
from zagreus.platform.builds import BUILDS
from zagreus.platform.naming import base_of, environment_digest, image_digest
from zagreus.platform.state import read_platform


def image_of(name: str, resources: Path) -> Path:
    """Return an image that is made, the CPU build before the CUDA ones.

    Where there is none, a virtual environment of the same lock. On a machine that was set up with
    `SOFTWARE=venv` only a virtual environment: images may lie there, and no Apptainer starts them.

    Raises:
        InputError: neither is made.
    """
    platform = read_platform()
    base = base_of(resources, platform)
    candidates = []
    for build in dict.fromkeys((platform["cpu_torch"], *BUILDS)):
        image = f"{name}-{image_digest(name, build, base)}"
        candidates += [resources / "images" / f"{image}.sif", resources / "images" / image]
        candidates.append(resources / "venvs" / f"{name}-{environment_digest(name, build)}")
    if platform["software"] == "venv":
        candidates = [path for path in candidates if path.parent.name == "venvs"]
    for path in candidates:
        if path.exists() and (path.parent.name != "venvs" or (path / "complete").exists()):
            return path
    if platform["software"] == "venv":
        names = ", ".join(dict.fromkeys(path.name for path in candidates))
        raise InputError(
            f"{resources / 'venvs'}: no environment {names}; make it first: bin/zagreus images"
        )
    names = ", ".join(dict.fromkeys(path.name for path in candidates if path.suffix == ".sif"))
    raise InputError(f"{resources / 'images'}: no image {names}; make it first: bin/zagreus images")


def launch(image: str, script: str, arguments: Sequence[str], network: bool = False) -> None:
    """Replace this process by a script in its image.

    Args:
        image: data, train, posttrain, evaluate or export.
        script: path of the script from the repository's root, which is the working folder.
        arguments: for the script; paths that exist on this machine are seen within the image too.
        network: it goes to the network: token, addresses, proxies and certificates go along.
    """
    root = Path.cwd()
    path = image_of(image, Path("resources"))
    os.environ["PYTHONPATH"] = str(root)
    if path.parent.name == "venvs":
        python = str(path / "bin" / "python")
        os.execv(python, [python, "-P", script, *arguments])
    platform = read_platform()
    apptainer = platform["apptainer"] or shutil.which("apptainer")
    if not apptainer:
        raise InputError("no apptainer on this machine; run `make setup`")
    os.environ["PATH"] = f"{Path(apptainer).parent}:{os.environ.get('PATH', '/usr/bin:/bin')}"
    # Folders alone: a file that is bound by itself cannot be replaced.
    paths = [Path(argument).resolve() for argument in arguments if Path(argument).exists()]
    folders = {
        str(root),
        *(
            str(path if path.is_dir() else path.parent)
            for path in paths
            if not path.is_relative_to(root)
        ),
    }
    command = [apptainer, "exec", "--cleanenv", *platform["exec_arguments"], "--pwd", str(root)]
    command += [part for folder in sorted(folders) for part in ("--bind", folder)]
    command += ["--nv"] if shutil.which("nvidia-smi") else []
    command += ["--env", f"PYTHONPATH={root}"]
    if network:
        into_images()
    os.execv(apptainer, [*command, str(path), "/opt/venv/bin/python", "-P", script, *arguments])
