"""Builds of torch and NVIDIA's drivers, with a stand-in for nvidia-smi."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from zagreus.cluster.drivers import check_nodes
from zagreus.errors import InputError
from zagreus.platform import builds
from zagreus.platform.builds import BUILDS, build_of
from zagreus.platform.driver import check_driver, driver_version, parse_version


def smi(folder: Path, says: str, status: int = 0) -> None:
    (folder / "nvidia-smi").write_text(f"#!/bin/sh\necho '{says}'\nexit {status}\n")
    (folder / "nvidia-smi").chmod(0o755)


def test_the_schema_lists_the_values() -> None:
    schema = yaml.safe_load(Path("config/schema.yaml").read_text())
    assert tuple(schema["properties"]["torch"]["enum"]) == builds.VALUES


def test_every_build_has_its_locks() -> None:
    assert all(
        Path(f"envs/{name}.{build}.lock").is_file()
        for build in BUILDS
        for name in ("train", "posttrain", "evaluate")
    )


@pytest.mark.parametrize(
    ("value", "driver", "line"),
    [
        (
            "cuda13",
            "550.54.15",
            r"torch: cuda13: the NVIDIA driver of this machine is 550\.54\.15, expected "
            r"580\.65\.06 or newer; set `torch: cuda12`",
        ),
        (
            "cuda",
            "470.82.01",
            "torch: cuda12: .* 470.82.01, expected 525.60.13 or newer; no build here runs on it: "
            ".*torch: cpu",
        ),
    ],
)
def test_a_driver_that_is_too_old_is_one_line_with_the_value_that_fits(
    value: str, driver: str, line: str
) -> None:
    with pytest.raises(InputError, match=line):
        check_driver(build_of(value), parse_version(driver))


@pytest.mark.parametrize(
    ("value", "driver"),
    [
        ("cuda12", "525.60.13"),
        ("cuda12", "580.65.06"),
        ("cuda13", "580.65.06"),
        ("cuda13", "590.1"),
        ("cpu", "1.0"),
        ("cuda13", ""),
    ],
)
def test_a_driver_that_fits_passes_and_so_does_none(value: str, driver: str) -> None:
    check_driver(build_of(value), parse_version(driver))


@pytest.mark.parametrize(
    ("says", "status", "version"),
    [("550.54.15", 0, (550, 54, 15)), ("No devices were found", 0, None), ("550.54.15", 9, None)],
)
def test_the_driver_is_what_nvidia_smi_says(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    says: str,
    status: int,
    version: tuple[int, ...] | None,
) -> None:
    smi(tmp_path, says, status)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert driver_version() == version


def test_rocm_is_one_clear_line() -> None:
    with pytest.raises(
        InputError,
        match=r"torch: rocm: no lock of the ROCm build .* Expected cpu, cuda12 or cuda13",
    ):
        build_of("rocm")


def test_the_node_whose_driver_is_too_old_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    smi(tmp_path, "535.104.05")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("SLURMD_NODENAME", "a100-07")
    check_nodes("cuda12", [])
    with pytest.raises(
        InputError, match=r"the NVIDIA driver of node a100-07 is 535\.104\.05, expected 580"
    ):
        check_nodes("cuda13", ["env"])


def test_a_training_on_this_machine_does_not_start_with_such_a_driver(tmp_path: Path) -> None:
    smi(tmp_path, "535.104.05")
    environment = {
        "PATH": f"{tmp_path}:/usr/bin:/bin",
        "PYTHONPATH": ".",
        "ZAGREUS_TORCH": "cuda13",
    }
    command = [
        sys.executable,
        "-P",
        "-m",
        "zagreus.cluster.launch",
        "--folder",
        str(tmp_path),
        "touch",
        str(tmp_path / "trained"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 2 and "set `torch: cuda12`" in done.stderr.splitlines()[-1]
    assert not (tmp_path / "trained").exists()
