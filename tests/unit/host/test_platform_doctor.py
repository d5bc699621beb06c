"""make doctor: one page, before any set-up, under any Python 3."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = (
    "system",
    "Python",
    "tools",
    "folder",
    "containers",
    "user namespaces",
    "/dev/fuse",
    "disk",
    "memory",
    "processor",
    "GPU",
    "Slurm",
)


def doctor(**variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-I", "scripts/doctor.py"],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin", **variables},
    )


def test_every_part_has_its_line_and_what_is_wrong_its_remedy() -> None:
    done = doctor()
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    for part in (*PAGE, "package index", "container registry"):
        assert any(re.match(rf"(ok|note|lacks) +{re.escape(part)} ", line) for line in lines), part
    for line, following in zip(lines, lines[1:]):
        assert (
            line.startswith("ok")
            or not re.match("note|lacks", line)
            or following.strip().startswith("-> ")
        ), line


def test_where_no_package_index_answers_the_demo_cannot_run() -> None:
    done = doctor(https_proxy="http://127.0.0.1:1", HTTPS_PROXY="http://127.0.0.1:1")
    assert done.returncode == 1
    assert (
        done.stdout.splitlines()[-1].startswith("The demo cannot run here: ")
        and "package index" in done.stdout.splitlines()[-1]
    )


@pytest.mark.parametrize(
    ("driver", "said"),
    [
        ("A100, 550.54.15", "fits torch: cuda12"),
        ("H100, 580.95.05", "fits torch: cuda13"),
        ("K80, 470.1", "older"),
    ],
)
def test_the_build_that_fits_the_driver_is_named(tmp_path: Path, driver: str, said: str) -> None:
    (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\necho '{driver}'\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    page = doctor(PATH=f"{tmp_path}:/usr/bin:/bin").stdout
    assert re.search(rf"GPU +.*{re.escape(driver)}.*\n?.*{said}", page)


def test_it_runs_under_an_old_python() -> None:
    old = next(
        (path for name in ("python3.6", "python3.9", "python3.10") if (path := shutil.which(name))),
        None,
    )
    if old is None or subprocess.run([old, "-c", ""], capture_output=True, check=False).returncode:
        pytest.skip("no Python older than 3.11 on PATH")
    done = subprocess.run(
        [old, "-I", "scripts/doctor.py"], capture_output=True, text=True, check=False
    )
    assert done.stderr == "" and "Python" in done.stdout
