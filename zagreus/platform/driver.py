"""NVIDIA's driver on this machine, compared with what a build of torch needs."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable

from zagreus.errors import InputError
from zagreus.platform.builds import BUILDS, Build

QUERY = ("--query-gpu=driver_version", "--format=csv,noheader")
SECONDS = 30  # nvidia-smi without its persistence daemon takes some seconds for eight GPUs


def driver_version() -> tuple[int, ...] | None:
    """Return the driver's version, as nvidia-smi tells it.

    None where there is no nvidia-smi or no GPU.
    """
    lines = ask_nvidia_smi(*QUERY)
    return parse_version(lines[0]) if lines else None


def ask_nvidia_smi(*arguments: str) -> list[str]:
    """Return the lines that nvidia-smi prints; none where it is missing, fails or hangs."""
    if shutil.which("nvidia-smi") is None:
        return []
    command = ["nvidia-smi", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return done.stdout.strip().splitlines() if done.returncode == 0 else []


def parse_version(text: str) -> tuple[int, ...] | None:
    """Return `550.54.15` as numbers; None for any other text."""
    text = text.strip()
    return tuple(map(int, text.split("."))) if re.fullmatch(r"\d+(\.\d+)+", text) else None


def check_driver(
    build: Build, version: tuple[int, ...] | None, where: str = "this machine"
) -> None:
    """Raise `InputError` where the driver that was found is too old for a build, with the value
    that fits; None passes.
    """
    if build.driver is None or version is None or version >= build.driver:
        return
    fitting = newest_for(version, BUILDS.values())
    remedy = (
        f"set `torch: {fitting.name}`"
        if fitting
        else "no build here runs on it: ask for a newer driver, or set `torch: cpu`"
    )
    raise InputError(
        f"torch: {build.name}: the NVIDIA driver of {where} is {show(version)}, expected "
        f"{show(build.driver)} or newer; {remedy}"
    )


def newest_for(version: tuple[int, ...], builds: Iterable[Build]) -> Build | None:
    """Return the build with the newest needs that a driver meets; None where it meets none."""
    fitting = [build for build in builds if build.driver and version >= build.driver]
    return max(fitting, key=lambda build: build.driver or (), default=None)


def show(version: tuple[int, ...]) -> str:
    """Return a version as NVIDIA writes it: the third part of two digits."""
    return ".".join([str(version[0]), *(f"{part:02d}" for part in version[1:])])
