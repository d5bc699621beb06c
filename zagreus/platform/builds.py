"""The builds of torch that an image can hold, by the value of `torch` in the configuration.

One table for everything that depends on it.
"""

from __future__ import annotations

from dataclasses import dataclass

from zagreus.errors import InputError


@dataclass(frozen=True)
class Build:
    """One build of torch: its locks are `envs/NAME.BUILD.lock`."""

    name: str
    device: str  # torch's name of the device that it computes on
    driver: tuple[int, ...] | None  # oldest NVIDIA driver that runs it; None where none is needed
    download_mb: int  # room that the wheels of all images need
    build_mb: int  # room that building one image needs: wheels unpacked twice and packed once


# Oldest drivers: NVIDIA's "CUDA Toolkit Release Notes", table of minor version compatibility (CUDA
# 12.x and 13.x on Linux). Sizes: docs/benchmarks/2026-11-28-images.md.
BUILDS = {
    build.name: build
    for build in (
        Build("cpu", "cpu", None, 1500, 5000),
        Build("cuda12", "cuda", (525, 60, 13), 6000, 25000),
        Build("cuda13", "cuda", (580, 65, 6), 6000, 25000),
    )
}
# Names that configurations may use too.
ALIASES = {"cuda": "cuda12"}
# What a configuration may say: config/schema.yaml lists the same.
VALUES = ("cpu", "cuda12", "cuda13", "rocm", "cuda")
# The build that serves `torch: cpu` where no CPU build can be had: the same release of torch.
INSTEAD_OF_CPU = "cuda13"


def build_of(value: str) -> Build:
    """Return the build that `torch: VALUE` asks for.

    Raise `InputError` for one that has no locks.
    """
    if value == "rocm":
        raise InputError(
            "torch: rocm: no lock of the ROCm build is in envs/: its wheels are on PyTorch's own "
            "index alone, which was out of reach"
            " when the locks were made; docs/platforms.md says how to make one. Expected cpu, "
            "cuda12 or cuda13"
        )
    name = ALIASES.get(value, value)
    if name not in BUILDS:
        raise InputError(f"torch: found '{value}', expected one of {', '.join(VALUES)}")
    return BUILDS[name]


def device_of(value: str) -> str:
    """Return torch's name of the device that `torch: VALUE` computes on: cpu or cuda."""
    return build_of(value).device


def on_gpus(value: str) -> bool:
    """Tell whether `torch: VALUE` computes on GPUs."""
    return device_of(value) != "cpu"
