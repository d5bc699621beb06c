"""What jobs ask of a Slurm cluster.

The full configuration is granted exactly that, and what the cluster lacks is said in one line.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT
from slurm_cluster import SlurmCluster, install

from zagreus.cluster import slurm
from zagreus.cluster.request import Request, check_requests, minutes_of
from zagreus.config.long_form import read_config
from zagreus.errors import InputError

SEEN = (
    "config",
    "recipes",
    "envs",
    "containers",
    "scripts",
    "zagreus",
    "reference",
    "profiles",
    "CITATION.cff",
)
# A job of each rule that computes with a model, of the published family, and the nodes and GPUs of
# a node that it must be granted. `convert` copies weights on the CPU: it holds no GPU.
GRANTED = {
    "pretrain/fra/129000.json": (8, 8),
    "models/nesso-agentic/sft/manifest.json": (1, 8),
    "models/spa/146000/manifest.json": (1, 0),
    "evaluate/por/153000/heldout.json": (1, 1),
    "samples/ita/775000.json": (1, 1),
}
# Partition `billed` is one where the cluster demands an account.
DEMAND = """function slurm_job_submit(job, partition, uid)
  if job.partition == "billed" and job.account == nil then
    slurm.log_user("an account is needed here")
    return slurm.ESLURM_INVALID_ACCOUNT
  end
  return slurm.SUCCESS
end
function slurm_job_modify(job, record, partition, uid) return slurm.SUCCESS end
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmCluster]:
    """Eight nodes with eight GPUs each, no default partition, and one partition that wants an
    account.
    """
    why = install()
    if why:
        pytest.skip(why)
    further = "JobSubmitPlugins=lua\nPartitionName=billed Nodes=a100-[01-08] MaxTime=1-00:00:00"
    made = SlurmCluster(
        tmp_path_factory.mktemp("slurm") / "cluster", default_partition=False, further=further
    )
    (made.folder / "job_submit.lua").write_text(DEMAND)
    try:
        made.start()
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory where everything is made, as empty files, that one job of each rule that
    asks for GPUs needs.
    """
    folder = tmp_path_factory.mktemp("published")
    for name in SEEN:
        (folder / name).symlink_to(ROOT / name)
    config = read_config(ROOT / "config.yaml")
    config["software"] = "venv"  # --touch is a run, which with images would ask for them
    for source in config["sources"].values():
        source["tasks"] = 1
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    targets = [f"results/zagreus/{path}" for path in GRANTED]
    listed = snakemake(folder, "--summary", *targets).stdout
    for line in listed.splitlines()[1:]:
        output = folder / line.split("\t")[0]
        output.parent.mkdir(parents=True, exist_ok=True)
        output.touch() if output.suffix else output.mkdir(exist_ok=True)
    touched = snakemake(folder, "--touch", "--cores", "1", *targets)
    assert touched.returncode == 0, touched.stderr
    for target in targets:
        (folder / target).unlink()
    return folder


def command(folder: Path, *arguments: str) -> list[str]:
    start = [
        sys.executable,
        "-m",
        "snakemake",
        "--snakefile",
        str(ROOT / "Snakefile"),
        "--directory",
        str(folder),
    ]
    return [*start, *arguments, "--configfile", str(folder / "config.yaml")]


def snakemake(
    folder: Path, *arguments: str, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the workflow in a folder."""
    environment = (environment or dict(os.environ)) | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        command(folder, *arguments),
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_the_published_training_is_granted_eight_nodes_of_eight_a100(
    cluster: SlurmCluster, published: Path
) -> None:
    """Every rule that computes with a model is submitted by the profile as it is.

    Slurm's own record of the job is read.
    """
    targets = [f"results/zagreus/{path}" for path in GRANTED]
    partition = ["--default-resources", "slurm_partition=a100", "mem_mb=4000", "runtime=120"]
    arguments = [
        *targets,
        "--profile",
        str(ROOT / "profiles/slurm"),
        *partition,
        "--retries",
        "0",
        "--rerun-triggers",
        "mtime",
    ]
    environment = cluster.environment | {"PYTHONPATH": str(ROOT)}
    log = published / "run.log"
    with open(log, "w") as opened:
        process = subprocess.Popen(
            command(published, *arguments),
            cwd=published,
            env=environment,
            stdout=opened,
            stderr=opened,
        )
    granted: dict[str, tuple[int, int, str, str]] = {}
    deadline = time.time() + 120
    while len(granted) < len(GRANTED) and time.time() < deadline:
        for job in cluster.jobs():
            rule = re.match("(?:rule|group)_([a-z]+)", job.get("Comment", ""))
            if rule and job["JobState"] == "RUNNING":
                gpu_counts = [
                    int(count) for count in re.findall(r"gpu:a100:(\d+)\(IDX", job["_detail"])
                ]
                granted[rule[1]] = (
                    int(job["NumNodes"]),
                    max(gpu_counts, default=0),
                    job["OverSubscribe"],
                    job["TimeLimit"],
                )
                cluster.run("scancel", job["JobId"])  # its inputs are empty files: it has served
        time.sleep(0.2)
    process.terminate()
    process.wait(60)
    assert set(granted) == {"pretrain", "posttrain", "convert", "evaluate", "sample"}, (
        log.read_text()[-3000:]
    )
    assert {rule: granted_job[:2] for rule, granted_job in granted.items()} == {
        "pretrain": (8, 8),
        "posttrain": (1, 8),
        "convert": (1, 0),
        "evaluate": (1, 1),
        "sample": (1, 1),
    }
    assert granted["pretrain"][2] == granted["posttrain"][2] == "NO"  # whole nodes


@pytest.fixture
def request_template(cluster: SlurmCluster, monkeypatch: pytest.MonkeyPatch) -> Request:
    """A request that the cluster can grant; the commands are those of the cluster."""
    monkeypatch.setenv("PATH", cluster.environment["PATH"])
    return Request("pretrain", "a100", "", 8, "gpu:a100:8", 64, 480000, 1440)


def test_what_there_is_can_be_asked_for(request_template: Request) -> None:
    check_requests(
        {
            request_template,
            replace(request_template, rule="sample", nodes=1, gres="gpu:1", cpus=1),
            replace(request_template, partition="billed", account="mine"),
        }
    )


MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "no partition": (
        {"partition": ""},
        "rule pretrain: no partition is given (slurm_partition, in the profile) and the cluster "
        "has no default one; it has a100, billed, short",
    ),
    "unknown partition": (
        {"partition": "gpus"},
        "rule pretrain: slurm_partition is 'gpus', which the cluster does not have; it has a100, "
        "bi",
    ),
    "no account": (
        {"partition": "billed"},
        "rule pretrain: Slurm refuses its jobs: an account is needed here",
    ),
    "unknown type": (
        {"gres": "gpu:h100:8"},
        "rule pretrain: asks for GPUs of type h100 (the config's cluster.gpu), partition a100 has "
        "a100",
    ),
    "too many GPUs": (
        {"gres": "gpu:a100:16"},
        "asks for 16 GPUs of a node (the config's cluster.ranks_per_node), partition a100 has 8",
    ),
    "too many nodes": (
        {"nodes": 16},
        "rule pretrain: asks for 16 nodes (the config's cluster.nodes), partition a100 has 8",
    ),
    "too few in the partition": (
        {"partition": "short", "minutes": 30},
        "asks for 8 nodes (the config's cluster.nodes), partition short has 2",
    ),
    "too long": (
        {"minutes": 2000},
        "runtime is 2000 minutes, partition a100 allows 1440 (the config's cluster.max_minutes)",
    ),
    "too many CPUs": (
        {"cpus": 128},
        "asks for 128 CPUs of a node (the config's cluster.cpus_per_node), the largest node of "
        "partition a100 has",
    ),
    "too much memory": (
        {"memory_mb": 900000},
        "asks for 900000 MB of memory of a node (the config's cluster.memory_mb_per_node), the "
        "larg",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_what_there_is_not_is_one_line(mistake: str, request_template: Request) -> None:
    changes, expected = MISTAKES[mistake]
    with pytest.raises(InputError) as raised:
        check_requests({replace(request_template, **changes)})
    assert expected in str(raised.value) and "\n" not in str(raised.value)


def test_a_command_that_is_missing(
    request_template: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(
        InputError,
        match=(
            "srun: not found on PATH; Slurm's commands are needed where Snakemake and its jobs run"
        ),
    ):
        slurm.require("srun")


def test_sacct_that_is_there_and_does_not_work(request_template: Request) -> None:
    assert shutil.which("sacct") and not slurm.accounting()


def test_the_workflow_stops_before_it_submits(cluster: SlurmCluster, published: Path) -> None:
    before = len(cluster.jobs())
    target = f"results/zagreus/{next(iter(GRANTED))}"
    done = snakemake(
        published,
        target,
        "--profile",
        str(ROOT / "profiles/slurm"),
        environment=cluster.environment,
    )
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode != 0 and len(lines) == 1 and "no partition is given" in lines[0], (
        done.stderr
    )
    assert len(cluster.jobs()) == before


def test_limits_of_time_as_slurm_writes_them() -> None:
    assert [minutes_of(limit) for limit in ("1-00:00:00", "00:30:00", "UNLIMITED")] == [
        1440,
        30,
        None,
    ]


def test_a_training_without_its_launcher_does_not_start(
    cluster: SlurmCluster, published: Path
) -> None:
    """`--set-resources` on the command line takes the place of the profile's.

    Each node would train by itself.
    """
    target = f"results/zagreus/{next(iter(GRANTED))}"
    told = (
        "--profile",
        str(ROOT / "profiles/slurm"),
        "--set-resources",
        "pretrain:slurm_partition=a100",
    )
    done = snakemake(published, target, *told, environment=cluster.environment)
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode != 0 and len(lines) == 1 and "its launcher is 'local'" in lines[0], (
        done.stderr
    )
