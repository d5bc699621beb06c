"""torch.compile of a model's layers and of the loss.

A circumstance of a run, which changes its last bits and its speed.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from zagreus.errors import InputError
from zagreus.model.llama import Llama
from zagreus.training.loss import SoftmaxGradient, softmax_gradient


@dataclass(frozen=True)
class Compilation:
    """Whether layers and loss are compiled, and why."""

    on: bool
    reason: str


def compilation(setting: bool | None, device: str) -> Compilation:
    """Return what `zagreus.compile` means on a device (`cpu` or `cuda`).

    Null compiles on CUDA, where a compiler is there.

    Raises:
        InputError: true, and this machine or image cannot compile.
    """
    if setting is False:
        return Compilation(False, "zagreus.compile: false")
    if setting is None and device != "cuda":
        return Compilation(False, "on a CPU the passes written by hand are faster")
    missing = missing_for_compilation(device)
    if not missing:
        return Compilation(True, "zagreus.compile: true" if setting else "on CUDA by itself")
    if setting:
        raise InputError(
            f"zagreus.compile: true: no {missing} on this machine or in this image; null compiles "
            "where that is possible"
        )
    return Compilation(False, f"no {missing} on this machine or in this image: a third slower")


def missing_for_compilation(device: str) -> str | None:
    """Return the first thing that torch's compiler lacks here: a C++ compiler on a CPU.

    Triton, a C compiler and Python's headers on
    CUDA (triton builds its launchers in C). None where nothing is missing."""
    if device != "cuda":
        compiler = os.environ.get("CXX", "g++")
        return None if shutil.which(compiler) else f"compiler '{compiler}'"
    if importlib.util.find_spec("triton") is None:
        return "package triton"
    compilers = [os.environ["CC"]] if "CC" in os.environ else ["gcc", "clang"]
    if not any(shutil.which(compiler) for compiler in compilers):
        return f"compiler '{compilers[0]}'"
    header = Path(sysconfig.get_path("include")) / "Python.h"
    return None if header.exists() else f"header '{header}'"


def compile_layers(model: Llama, backend: str | Callable = "inductor") -> None:
    """Have torch make one kernel of what lies between the matrix products of a layer, at its first
    use. All layers share one graph.
    """
    for layer in model.decoder:
        layer.compile(backend=backend)


def compiled_loss(backend: str | Callable = "inductor") -> SoftmaxGradient:
    """Return `softmax_gradient` as one kernel, made at its first use.

    One for each size of a block of tokens.
    """
    return torch.compile(softmax_gradient, backend=backend, dynamic=False, fullgraph=True)  # type: ignore[no-any-return]
