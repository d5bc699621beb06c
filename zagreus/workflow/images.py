"""Images, or the same locks as virtual environments (`software: venv`)."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from zagreus.errors import InputError
from zagreus.launch.variables import PORTABLE, PORTABLE_IMAGES, with_variables
from zagreus.platform import naming
from zagreus.platform.base import GPU_PACKAGES, Base
from zagreus.platform.builds import BUILDS, device_of
from zagreus.platform.digest import digest
from zagreus.platform.state import read_platform
from zagreus.platform.wheels import IMAGE_PYTHON, running_python
from zagreus.workflow.interface import Config, Wildcards
from zagreus.workflow.paths import Paths

# The lock of what builds the wheels of source packages.
BUILD_LOCK = "envs/build.lock"
# The interpreter of the host. Its path is an environment variable, so that moving it reruns
# nothing. -P: the folder of a script is not searched, so that scripts/tokenize.py does not take
# the place of the standard library's module.
HOST_PYTHON = '"$ZAGREUS_PYTHON" -P'


@dataclass(frozen=True)
class Images:
    """The images of a run, and the commands that run in them."""

    config: Config
    """The checked configuration."""
    paths: Paths
    """Folders of the run."""
    platform: Mapping[str, Any]
    """What `make setup` found out about this machine."""
    build: str
    """The build of torch in the images."""
    base: Base | None
    """The base of the images; None for virtual environments."""

    @classmethod
    def read(cls, config: Config, paths: Paths) -> Images:
        """Read this machine's platform.

        Raises:
            InputError: no such build of torch, or no single base image to choose.
        """
        platform = read_platform()
        build = naming.flavour(config["torch"], platform)
        base = None
        if config["software"] == "apptainer":
            base = naming.base_of(Path(config["pathvars"]["resources"]), platform)
        return cls(config, paths, platform, build, base)

    @property
    def python_version(self) -> str:
        """The Python that the wheels are for."""
        return running_python() if self.base is None else IMAGE_PYTHON

    @property
    def device(self) -> str:
        """The device of a training: cpu or cuda."""
        return device_of(self.config["torch"])

    @property
    def suffix(self) -> str:
        """The suffix of the file that stands for an image: `sif`, or `json` for a folder."""
        return "sif" if self.platform["image"] == "sif" else "json"

    def lock(self, name: str) -> str:
        """Return the lock file of an image."""
        return str(naming.lock_of(name, self.build))

    def digest(self, name: str) -> str:
        """Return the twelve digits over everything that decides what an image holds."""
        return self._digests[name]

    @cached_property
    def _digests(self) -> dict[str, str]:
        if self.base is None:
            return {name: naming.environment_digest(name, self.build) for name in naming.NAMES}
        return {name: naming.image_digest(name, self.build, self.base) for name in naming.NAMES}

    def image(self, name: str) -> str:
        """Return the input file that stands for an image, or for a complete environment."""
        if self.base is None:
            return self.paths.path(f"<resources>/venvs/{name}-{self.digest(name)}/complete")
        return self.paths.path(f"<resources>/images/{name}-{self.digest(name)}.{self.suffix}")

    def all(self) -> list[str]:
        """Return the input files that stand for all images."""
        return [self.image(name) for name in naming.NAMES]

    def container(self, name: str) -> str | None:
        """Return the image for `container:`.

        A SIF, a folder where the machine cannot mount a SIF, None for virtual environments.
        """
        if self.base is None:
            return None
        suffix = ".sif" if self.suffix == "sif" else ""
        return self.paths.path(f"<resources>/images/{name}-{self.digest(name)}{suffix}")

    def python(self, name: str) -> str:
        """Return the command that runs a script in an image, or with `host` on the host."""
        if name == "host":
            return HOST_PYTHON
        command = "/opt/venv/bin/python -P"
        if self.base is None:
            command = self.paths.path(f"<resources>/venvs/{name}-{self.digest(name)}/bin/python -P")
        if self.config.get("portable") and name in PORTABLE_IMAGES:
            return with_variables(PORTABLE, command)
        return command

    def launch(self, name: str) -> str:
        """Return the command that starts a program of an image on one machine or on many."""
        program = f"{HOST_PYTHON} -m zagreus.cluster.launch"
        return program if self.base is None else f"{program} --image {self.container(name)}"

    def base_image(self, wildcards: Wildcards) -> str:
        """Return the base image of an image."""
        gpu = naming.needs_gpu_packages(wildcards.name, self.build)
        return f"<resources>/images/base-{self._base.digest(gpu)}.sif"

    def base_parts(self) -> list[str]:
        """Return the files that decide what a base image holds; none without images."""
        return [] if self.base is None else list(map(str, self.base.parts(True)))

    def base_options(self, wildcards: Wildcards) -> str:
        """Return where a base image is from and what is installed, as options of base_image.py.

        Raises:
            InputError: today's files give base images of other digests.
        """
        base = self._base
        plain, with_gpu = base.digest(False), base.digest(True)
        if wildcards.digest not in (plain, with_gpu):
            raise InputError(
                f"base image {wildcards.digest}: the files in containers/ give {plain}"
            )
        gpu = wildcards.digest != plain
        packages = ["containers/base.packages"] if base.source == "archive" else []
        packages += [str(GPU_PACKAGES)] if gpu and base.source != "file" else []
        options = [f"--source {base.source}", "--insecure" if base.insecure else ""]
        options.append(f"--reference {shlex.quote(base.reference)}" if base.reference else "")
        options.append(f"--packages {' '.join(packages)}" if packages else "")
        return " ".join(filter(None, options))

    def current_lock(self, wildcards: Wildcards) -> str:
        """Return the lock of an image.

        Raises:
            InputError: today's files give an image of another digest.
        """
        name = wildcards.name
        if wildcards.digest != self.digest(name):
            raise InputError(
                f"image {name}-{wildcards.digest}: the files in envs/ and containers/ give "
                f"{self.digest(name)}"
            )
        return self.lock(name)

    def wheel_list(self, wildcards: Wildcards) -> str:
        """Return the list of the wheels that an image is built from."""
        return self._wheel_list(self.current_lock(wildcards))

    def build_wheel_list(self) -> str:
        """Return the list of the wheels that source packages are built with."""
        return self._wheel_list(BUILD_LOCK)

    def _wheel_list(self, lock: str) -> str:
        """Return the list of a lock's wheels for the Python that will install them."""
        path = Path(lock)
        return f"<resources>/wheels/{path.stem}-py{self.python_version}-{digest([path])}.json"

    def pip_options(self, wildcards: Wildcards) -> str:
        """Return this machine's options of pip, as options of scripts/wheelhouse.py."""
        return " ".join(shlex.quote(f"--pip={argument}") for argument in self.platform["pip"])

    def download_mb(self, wildcards: Wildcards) -> int:
        """Return the disk that the wheels of an image take, in megabytes."""
        return BUILDS[self.build].download_mb

    def build_mb(self, wildcards: Wildcards) -> int:
        """Return the disk that building an image takes, in megabytes."""
        return BUILDS[self.build].build_mb

    @property
    def _base(self) -> Base:
        if self.base is None:
            raise InputError("software: found venv, which has no base image; expected apptainer")
        return self.base
