"""One machine with GPUs and no Slurm: what `profiles/local` starts.

`nvidia-smi` and Apptainer are stand-ins that record; workflow, profile, configuration are real.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, link_repository, snakemake

# What evaluate and sample would leave behind, and when the job ran, with which arguments.
APPTAINER = r"""#!/bin/bash
if [ "$1" = --version ]; then echo "apptainer version 1.4.5"; exit; fi
start=$(date +%s.%N)
sleep 0.5
for output in $(grep -oE -- '--(items|output) [^ ]+' <<< "${!#}" | cut -d' ' -f2); do
    echo '{}' > "$output"
done
line="$start $(date +%s.%N) ${ZAGREUS_GPUS-unset} ${APPTAINERENV_ZAGREUS_GPUS-unset} $*"
line=$(echo "$line" | tr '\n' ' ')
echo "$line" >> "$RECORD" # one write: two jobs may end at the same time
"""
NVIDIA_SMI = """#!/bin/sh
case "$*" in *driver_version*) printf '550.54.15\\n%.0s' $GPUS;; *) printf '%s\\n' $GPUS;; esac
"""
LOCAL = ("--profile", str(ROOT / "profiles/local"), "--configfile", str(ROOT / "config/small.yaml"))
MODELS = ("ita", "spa")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory where everything before the samples of two models is made, empty."""
    folder = tmp_path_factory.mktemp("small")
    link_repository(folder)
    models = yaml.safe_load((ROOT / "config/small.yaml").read_text())["models"]
    last = models["ita"]["pretrain"]["checkpoints"][-1]
    targets = [f"results/small/samples/{model}/{last}.json" for model in MODELS]
    listed = snakemake("--summary", *targets, "--sdm", "apptainer", *LOCAL[2:], folder=folder)
    assert listed.returncode == 0, listed.stderr
    for line in listed.stdout.splitlines()[1:]:
        output = folder / line.split("\t")[0]
        output.parent.mkdir(parents=True, exist_ok=True)
        output.touch()
    with_tools(folder)
    touched = run(folder, "0 1", "--touch", *targets)
    assert touched.returncode == 0, touched.stderr
    return folder


def with_tools(folder: Path) -> None:
    tools = folder / "tools"
    tools.mkdir()
    for name, text in (("apptainer", APPTAINER), ("nvidia-smi", NVIDIA_SMI)):
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)


def run(
    folder: Path, gpus: str, *arguments: str, visible: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the workflow with the local profile on a machine with some GPUs."""
    before = dict(os.environ)
    os.environ |= {
        "PATH": f"{folder / 'tools'}:{before['PATH']}",
        "GPUS": gpus,
        "RECORD": str(folder / "record"),
    }
    os.environ.pop("CUDA_VISIBLE_DEVICES", None)
    if visible is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = visible
    try:
        return snakemake(*arguments, *LOCAL, folder=folder)
    finally:
        os.environ.clear()
        os.environ.update(before)


def samples(folder: Path) -> list[Path]:
    return sorted((folder / "results/small/samples").rglob("*.json"))


@pytest.fixture
def start(made: Path) -> Callable[..., tuple[subprocess.CompletedProcess[str], list[list[str]]]]:
    """Return a function that makes both samples again and gives the record, one list a job."""
    outputs = [str(path.relative_to(made)) for path in samples(made)]

    def start(
        gpus: str, *arguments: str, visible: str | None = None
    ) -> tuple[subprocess.CompletedProcess[str], list[list[str]]]:
        for output in outputs:
            (made / output).unlink(missing_ok=True)
        (made / "record").unlink(missing_ok=True)
        done = run(made, gpus, *outputs, *arguments, visible=visible)
        lines = (made / "record").read_text().splitlines() if (made / "record").exists() else []
        for output in outputs:
            (made / output).touch()
        return done, [line.split() for line in lines]

    return start


def together(record: list[list[str]]) -> int:
    """Return the largest number of jobs that ran at one time."""
    starts = [float(line[0]) for line in record]
    return max(
        sum(float(line[0]) <= moment < float(line[1]) for line in record) for moment in starts
    )


def test_jobs_get_the_driver_and_share_two_gpus(start: Callable) -> None:
    done, record = start("0 1", "--cores", "8")
    assert done.returncode == 0, done.stderr
    assert len(record) == 2 and together(record) == 2
    for line in record:
        assert line[2:4] == ["0,1", "0,1"]
        assert line[4] == "exec" and "--nv" in line and "--cleanenv" in line


def test_one_gpu_runs_one_job_at_a_time(start: Callable) -> None:
    done, record = start("0", "--cores", "8")
    assert done.returncode == 0, done.stderr
    assert len(record) == 2 and together(record) == 1


def test_a_choice_of_gpus_is_kept(start: Callable) -> None:
    done, record = start("0 1 2 3", "--cores", "8", visible="3")
    assert done.returncode == 0, done.stderr
    assert together(record) == 1 and {line[3] for line in record} == {"3"}


def test_a_machine_without_a_gpu_is_one_line_before_any_job(start: Callable) -> None:
    done, record = start("")
    assert done.returncode != 0 and not record
    said = [text for text in done.stderr.splitlines() if text.startswith("error: ")]
    line = "error: torch: cuda12: sample computes on a GPU, and this machine has none"
    assert len(said) == 1 and said[0].startswith(line), done.stderr
