"""Names of images and of virtual environments: what each is made of, in twelve digits.

For the rules and for the commands beside them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zagreus.platform.base import Base, choose
from zagreus.platform.builds import BUILDS, build_of
from zagreus.platform.digest import digest
from zagreus.platform.wheels import IMAGE_PYTHON, running_python

NAMES = ("data", "train", "posttrain", "evaluate", "export")
# Images without torch have one lock, whatever the build of torch.
WITHOUT_TORCH = ("data", "export")
INSTALL = (Path("containers/install.sh"), Path("envs/build.lock"))


def flavour(torch: str, platform: Mapping[str, Any]) -> str:
    """Return the build of torch that images hold.

    Where no CPU build can be had, the set-up chose another one.
    """
    name = build_of(torch).name
    return str(platform["cpu_torch"]) if name == "cpu" else name


def lock_of(name: str, build: str) -> Path:
    """Return an image's lock file; an image without torch has one lock."""
    return Path(f"envs/{name}.lock" if name in WITHOUT_TORCH else f"envs/{name}.{build}.lock")


def needs_gpu_packages(name: str, build: str) -> bool:
    """Tell whether an image stands on the base with a compiler and the network's libraries."""
    return name not in WITHOUT_TORCH and BUILDS[build].driver is not None


def image_digest(name: str, build: str, base: Base) -> str:
    """Return the digest of an image.

    Over its base, the way it is installed, its definition and its lock.
    """
    further = [*INSTALL, Path(f"containers/{name}.def"), lock_of(name, build)]
    return base.digest(needs_gpu_packages(name, build), further)


def environment_digest(name: str, build: str) -> str:
    """Return the digest of a virtual environment.

    That of the same lock, another one for each Python.
    """
    whole = digest([Path("containers/environment.sh"), *INSTALL, lock_of(name, build)])
    if running_python() == IMAGE_PYTHON:
        return whole
    return hashlib.sha256(f"{whole} {running_python()}".encode()).hexdigest()[:12]


def base_of(resources: Path, platform: Mapping[str, Any]) -> Base:
    """Return where this machine's base image comes from."""
    return choose(resources / "images", platform.get("base") or {})
