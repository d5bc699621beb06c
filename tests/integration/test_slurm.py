"""Training and scoring as jobs of a real Slurm cluster (slurm_cluster.py), in the real images.

The data are made on this machine first, and one model is trained; what is disturbed in between must
end in the same losses and weights, bit for bit. `-m slow` runs the whole test-size pipeline through
Slurm (`-k whole`), and the demo (`-k demo`).
"""

from __future__ import annotations

import contextlib
import json
import math
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from conftest import CONFIG, ROOT
from slurm_cluster import SlurmCluster, install

RESULTS = ROOT / "results" / "slurm-test"
MODEL = RESULTS / "pretrain" / "ita"
STEP = 80
SFT = RESULTS / "models" / "nesso-instruct" / "sft" / "manifest.json"
DPO = RESULTS / "models" / "nesso-instruct" / "dpo" / "manifest.json"
DISTILLED = RESULTS / "models" / "nesso-distilled" / "distill" / "manifest.json"
# Steps between the checkpoints of post-training.
SAVED = 15
STARTED: list[subprocess.Popen[bytes]] = []
# Asking for the jobs early: these are short.
SLURM = ("--profile", "slurm", "--slurm-init-seconds-before-status-checks", "2")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmCluster]:
    """Eight nodes with eight GPUs each."""
    why = install()
    if why:
        pytest.skip(why)
    made = SlurmCluster(tmp_path_factory.mktemp("slurm") / "cluster")
    try:
        made.start()
        yield made
    finally:
        made.stop()


def longer(stage: str) -> dict[str, Any]:
    """Return the keys of a recipe of Axolotl that leave time to disturb a stage over nodes."""
    keys = {
        # Without it Axolotl gives each of several processes a GPU, also where there is none.
        "max_memory": {"cpu": "8GiB"},
        "num_epochs": 6,
        "save_strategy": "steps",
        "save_steps": SAVED,
        "eval_strategy": "no",
        "val_set_size": 0,
    }
    return keys | ({"curriculum_sampling": False} if stage == "sft" else {})  # as published


def write_config(nodes: int, ranks: int, posttrain_nodes: int = 1) -> Path:
    """Write config/test.yaml with one checkpoint and another geometry, and results of its own."""
    config = yaml.safe_load((ROOT / CONFIG).read_text())
    (ROOT / "results").mkdir(exist_ok=True)
    config["pathvars"] |= {
        name: folder.replace("results/test", "results/slurm-test")
        for name, folder in config["pathvars"].items()
    }
    config["cluster"] = {
        "nodes": nodes,
        "ranks_per_node": ranks,
        "preflight": False,
    }  # it has a test of its own
    config["models"]["ita"]["pretrain"]["checkpoints"] = [STEP]
    if posttrain_nodes > 1:
        config["cluster"]["posttrain_nodes"] = posttrain_nodes
        for model in config["models"].values():
            for stage in model.get("posttrain", []):
                recipe = yaml.safe_load((ROOT / stage["recipe"]).read_text())
                if stage["stage"] in ("sft", "dpo"):
                    recipe |= longer(stage["stage"])
                stage |= {
                    "batch_ranks": posttrain_nodes,
                    "recipe": f"results/slurm-test-{stage['stage']}.yaml",
                }
                (ROOT / stage["recipe"]).write_text(yaml.safe_dump(recipe))
    path = ROOT / "results" / f"slurm-test-{nodes}x{ranks}x{posttrain_nodes}.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def start(
    config: Path, *arguments: str, environment: dict[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start the workflow."""
    command = [ROOT / "bin" / "zagreus", *arguments, "--configfile", config]
    STARTED.append(
        subprocess.Popen(command, cwd=ROOT, stdout=sys.stderr, stderr=sys.stderr, env=environment)
    )
    return STARTED[-1]


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a workflow and all that it started on this machine, at once.

    Its jobs in the queue live on.
    """
    with contextlib.suppress(psutil.NoSuchProcess):
        for victim in [
            *psutil.Process(process.pid).children(recursive=True),
            psutil.Process(process.pid),
        ]:
            with contextlib.suppress(psutil.NoSuchProcess):
                victim.kill()
    process.wait()


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """A test that fails leaves no workflow running."""
    yield
    while STARTED:
        kill(STARTED.pop())


def train_under_slurm(cluster: SlurmCluster, *further: str) -> subprocess.Popen[bytes]:
    """Start the training of the model on two nodes with two ranks each."""
    return start(
        write_config(2, 2),
        str(MODEL.relative_to(ROOT) / f"{STEP}.json"),
        *SLURM,
        *further,
        environment=cluster.environment,
    )


def forget() -> None:
    """Remove all that the model's training has made."""
    shutil.rmtree(MODEL / "checkpoints", ignore_errors=True)
    for path in MODEL.glob(f"{STEP}.json*"):
        path.unlink()


def outcome() -> tuple[list[tuple[int, float, float]], str]:
    """Return steps, losses and gradient norms, and the sha256 of the weights."""
    lines = [json.loads(line) for line in (MODEL / f"{STEP}.jsonl").read_text().splitlines()]
    steps = [(line["step"], line["loss"], line["grad_norm"]) for line in lines if "loss" in line]
    return steps, json.loads((MODEL / f"{STEP}.json").read_text())["weights_sha256"]


def wait(moment: Callable[[], Any], seconds: float = 90) -> Any:
    """Wait for a moment and return what it gives."""
    deadline = time.time() + seconds
    while not (result := moment()):
        assert time.time() < deadline, f"not seen in {seconds} s"
        time.sleep(0.05)
    return result


def newest() -> int:
    """Return the step of the training's newest checkpoint, 0 where there is none."""
    return max(
        (int(path.name) for path in (MODEL / "checkpoints").glob("[0-9]*") if path.name.isdigit()),
        default=0,
    )


def saved(step: int) -> Callable[[], bool]:
    """Return whether the training has saved at a step or later."""
    return lambda: 0 < newest() >= step


def first_step() -> int:
    """Return the first step of the training's last start, as its log says it.

    0 where it has not said so yet.
    """
    log = RESULTS / "logs" / "pretrain" / "ita" / f"{STEP}.log"
    match = re.search(r"^steps: (\d+) to", log.read_text(), re.MULTILINE)
    return int(match[1]) if match else 0


def training_job(
    cluster: SlurmCluster, *states: str, rule: str = "pretrain"
) -> dict[str, str] | None:
    """Return the youngest training job in one of the states."""
    jobs = [
        job
        for job in cluster.jobs()
        if job.get("Comment", "").startswith(f"rule_{rule}") and job["JobState"] in states
    ]
    return jobs[-1] if jobs else None


@pytest.fixture(scope="module")
def alone(cluster: SlurmCluster) -> tuple[list[tuple[int, float, float]], str]:
    """What one process on this machine makes of the same recipe.

    It makes the data for all tests as well.
    """
    forget()
    assert start(write_config(1, 1), str(MODEL.relative_to(ROOT) / f"{STEP}.json")).wait() == 0
    return outcome()


@pytest.fixture(scope="module")
def undisturbed(cluster: SlurmCluster, alone: object) -> dict[str, Any]:
    """Two nodes with two ranks each, left in peace: its outcome, and its job as Slurm had it."""
    forget()
    process = train_under_slurm(cluster)
    job = wait(lambda: training_job(cluster, "RUNNING"))
    assert process.wait() == 0
    return {"outcome": outcome(), "job": job}


def test_two_nodes_train_as_one_process_does(alone: Any, undisturbed: dict[str, Any]) -> None:
    (one, _), (four, _) = alone, undisturbed["outcome"]
    assert [step for step, *_ in one] == [step for step, *_ in four] == list(range(1, STEP + 1))
    for (_, loss, norm), (_, other_loss, other_norm) in zip(one[:40], four[:40]):
        assert other_loss == pytest.approx(loss, rel=1e-4) and other_norm == pytest.approx(
            norm, rel=1e-2
        )
    assert four[-1][1] == pytest.approx(one[-1][1], rel=2e-2)
    assert json.loads((MODEL / f"{STEP}.jsonl").read_text().splitlines()[0])["ranks"] == 4


def test_the_job_had_its_nodes_to_itself(undisturbed: dict[str, Any]) -> None:
    job = undisturbed["job"]
    assert job["NumNodes"] == "2" and job["OverSubscribe"] == "NO" and job["Requeue"] == "1"


def test_signal_and_requeue_end_in_the_undisturbed_result(
    cluster: SlurmCluster, undisturbed: dict[str, Any]
) -> None:
    forget()
    process = train_under_slurm(cluster)
    wait(saved(25))
    job = training_job(cluster, "RUNNING")
    assert job
    cluster.run("scancel", "--signal=USR2", job["JobId"])  # as Slurm does before a time limit
    wait(lambda: cluster.run("scontrol", "show", "job", job["JobId"]).count("Restarts=1"))
    wait(saved(50))
    cluster.run("scontrol", "requeue", job["JobId"])
    assert process.wait() == 0
    assert "Restarts=2" in cluster.run("scontrol", "show", "job", job["JobId"])
    assert outcome() == undisturbed["outcome"]


def ranks() -> list[psutil.Process]:
    """Return the processes that train the model, of both nodes.

    Those that started them (srun, Apptainer, `python -m ...`) have the same
    arguments."""
    processes = []
    for process in psutil.process_iter(["cmdline"]):
        line = process.info["cmdline"] or []
        trains = (
            "scripts/pretrain.py" in line and f"results/slurm-test/pretrain/ita/{STEP}.yaml" in line
        )
        if trains and Path(line[0]).name.startswith("python") and "-m" not in line:
            processes.append(process)
    return processes


def stall() -> None:
    """Stop the ranks where they are, as a file system does that hangs.

    80 steps take ten seconds, and a time limit is a minute.
    """
    for process in ranks():
        with contextlib.suppress(psutil.NoSuchProcess):
            process.suspend()


def test_a_dead_node_and_a_killed_snakemake_end_in_the_undisturbed_result(
    cluster: SlurmCluster, undisturbed: dict[str, Any]
) -> None:
    forget()
    process = train_under_slurm(cluster)
    wait(saved(25))
    job = training_job(cluster, "RUNNING")
    assert job
    node = cluster.run("scontrol", "show", "hostnames", job["NodeList"]).split()[1]
    cluster.kill_node(node)
    before = newest()
    # Every 25 steps a checkpoint: no more than these are made again.
    assert wait(lambda: first_step() > 1 and first_step()) > before >= 25
    wait(saved(50))
    stall()  # the 30 steps that are left take less time than a second Snakemake's start
    cluster.start_node(node)
    kill(process)
    job = training_job(cluster, "RUNNING")
    assert job, "the job should outlive the Snakemake that submitted it"
    assert train_under_slurm(cluster).wait() == 0
    assert "JobState=CANCELLED" in cluster.run(
        "scontrol", "show", "job", job["JobId"]
    )  # by the second run, and it stayed so
    assert outcome() == undisturbed["outcome"]


def signalled(number: signal.Signals) -> bool:
    """Return whether a signal waits for a rank that is stopped."""
    for process in ranks():
        with contextlib.suppress(OSError):
            pending = re.search(
                "^ShdPnd:\\s*([0-9a-f]+)",
                Path(f"/proc/{process.pid}/status").read_text(),
                re.MULTILINE,
            )
            if pending and int(pending[1], 16) >> (number - 1) & 1:
                return True
    return False


def test_a_time_limit_that_runs_out_ends_in_the_undisturbed_result(
    cluster: SlurmCluster, undisturbed: dict[str, Any]
) -> None:
    """A job of one minute. The first attempt has no warning.

    Slurm ends it, and Snakemake tries again. The second is warned before its limit,
    saves, and goes back into the queue."""
    forget()
    warned = "'--exclusive' if attempt == 1 else '--exclusive --signal=USR2@1'"
    # All that the profile sets for the rule: the command line's take its place.
    told = ("pretrain:launcher=srun", "pretrain:runtime=1", f"pretrain:slurm_extra={warned}")
    process = train_under_slurm(cluster, "--set-resources", *told)
    wait(saved(25))
    first = training_job(cluster, "RUNNING")
    assert first and first["TimeLimit"] == "00:01:00"
    stall()
    # Slurm looks at time limits every half minute; its first signal wakes the ranks, which save.
    wait(lambda: "JobState=TIMEOUT" in cluster.run("scontrol", "show", "job", first["JobId"]), 150)
    second = wait(
        lambda: (
            (job := training_job(cluster, "RUNNING")) and job["JobId"] != first["JobId"] and job
        ),
        120,
    )
    wait(saved(50))
    stall()
    assert len(ranks()) == 4
    # Slurm may wake them for its signal, or leave it waiting for them.
    wait(
        lambda: (
            signalled(signal.SIGUSR2)
            or "Restarts=1" in cluster.run("scontrol", "show", "job", second["JobId"])
        ),
        120,
    )
    for rank in ranks():
        with contextlib.suppress(psutil.NoSuchProcess):
            rank.resume()
    assert process.wait() == 0
    assert "Restarts=1" in cluster.run("scontrol", "show", "job", second["JobId"])
    assert outcome() == undisturbed["outcome"]


def test_a_folder_that_one_node_does_not_see(
    cluster: SlurmCluster, undisturbed: dict[str, Any]
) -> None:
    """A node whose `results` is another file system: said in one line, before anything trains."""
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode:
        pytest.skip("no mount namespace can be made here")
    forget()
    log = RESULTS / "logs" / "pretrain" / "ita" / f"{STEP}.log"
    cluster.nodes["a100-02"].terminate()
    cluster.nodes["a100-02"].wait()
    hidden = ROOT / "results"
    cluster.start_node(
        "a100-02",
        "unshare",
        "--mount",
        "sh",
        "-c",
        f'mount -t tmpfs none {hidden} && exec "$@"',
        "sh",
    )
    try:
        wait(lambda: cluster.idle() == 8)
        assert train_under_slurm(cluster, "--retries", "0").wait() != 0
    finally:
        cluster.nodes["a100-02"].terminate()
        cluster.nodes["a100-02"].wait()
        cluster.start_node("a100-02")
        wait(lambda: cluster.idle() == 8)
    assert [line for line in log.read_text().splitlines() if line.startswith("error: ")] == [
        f"error: {MODEL}/checkpoints: not seen from a100-02; the repository, `resources` and "
        "`results` must lie on a file system that all nodes share"
    ]
    assert not saved(0)()


def test_memory_that_was_not_asked_for_is_not_there(cluster: SlurmCluster, tmp_path: Path) -> None:
    """So that each rule's `mem_mb` is real here: twice as much is killed, half as much is not."""
    program = "import time; data = bytearray(b'x') * ({} * 2**20); time.sleep(12)"
    jobs = {}
    for name, megabytes in {"within": 200, "beyond": 800}.items():
        script = tmp_path / f"{name}.sh"
        script.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{program.format(megabytes)}"\n')
        jobs[name] = cluster.run(
            "sbatch",
            "--parsable",
            "--mem=400",
            "-n1",
            f"--output={tmp_path}/{name}.log",
            str(script),
        ).strip()

    def state(name: str) -> str:
        return next(job["JobState"] for job in cluster.jobs() if job["JobId"] == jobs[name])

    wait(
        lambda: (
            state("within") not in ("PENDING", "RUNNING")
            and state("beyond") not in ("PENDING", "RUNNING")
        )
    )
    assert state("within") == "COMPLETED"
    assert state("beyond") in ("FAILED", "OUT_OF_MEMORY", "CANCELLED")


# A training of two tiny models' steps, without images: the environment of the same lock.
TINY = """import sys
sys.path.insert(0, "tests/unit/train")
from pathlib import Path
from small import Training
training = Training(Path(sys.argv[1]))
print(" ".join(training.command(8, ranks=2)[2:]))
"""


def test_nodes_are_measured_and_know_their_place(cluster: SlurmCluster, tmp_path: Path) -> None:
    """A site that exports nothing to its steps: the geometry comes by arguments.

    The preflight runs first, and
    where a limit is beyond reach nothing is trained."""
    python = next((ROOT / "resources" / "venvs").glob("train-*/bin/python"), None)
    if python is None:
        pytest.skip("no environment of train's lock here (software: venv)")
    made = subprocess.run(
        [python, "-P", "-c", TINY, str(tmp_path)],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert made.returncode == 0, made.stderr
    for name, limits in {
        "refused": {"transport": "IB"},
        "trained": {"max_clock_skew_s": 60},
    }.items():
        job = tmp_path / f"{name}.sh"
        job.write_text(
            f"#!/bin/sh\nexport PYTHONPATH={ROOT} ZAGREUS_CLUSTER='{json.dumps(limits)}' "
            "SLURM_EXPORT_ENV=NONE OMP_NUM_THREADS=1\n"
            f"cd {ROOT}\nexec {python} -P -m zagreus.cluster.launch --launcher srun --nodes 2 "
            "--cpus 2"
            f" --folder {tmp_path}/checkpoints {python} -P {made.stdout}"
        )
        number = cluster.run(
            "sbatch",
            "--parsable",
            "-N2",
            "-n2",
            "-c2",
            "--mem=4000",
            f"--output={tmp_path}/{name}.log",
            str(job),
        ).strip()

        def state(number: str = number) -> str:
            return next(job["JobState"] for job in cluster.jobs() if job["JobId"] == number)

        wait(lambda: state() not in ("PENDING", "RUNNING"), 240)
        said = (tmp_path / f"{name}.log").read_text()
        assert "all-reduce of all 4 ranks: " in said and "a100-0" in said, said
        if name == "refused":
            assert (
                "the ranks talk over TCP (gloo) between nodes, expected IB (cluster.transport)"
                in said
            )
            assert (
                "error: the nodes did not pass the preflight" in said
                and not (tmp_path / "8.json").exists()
            )
            assert state() == "FAILED"
        else:
            assert state() == "COMPLETED", said
            assert json.loads((tmp_path / "8.run.json").read_text())["ranks"] == 4
            measured = json.loads((tmp_path / "checkpoints" / "preflight.json").read_text())
            assert len({row["node"] for row in measured["ranks"]}) == 2


def test_each_rank_sees_the_gpus_of_its_step(cluster: SlurmCluster, tmp_path: Path) -> None:
    """Two jobs share a node.

    The ranks of each see the GPUs that Slurm gave to that job, within the image.
    """
    image = next((ROOT / "resources" / "images").glob("train-*.sif"))
    platform = json.loads((ROOT / ".tools" / "platform.json").read_text())
    enter = " ".join(
        [
            platform["apptainer"],
            "exec",
            "--cleanenv",
            *platform["exec_arguments"],
            "--home",
            str(ROOT),
        ]
    )
    program = tmp_path / "rank.py"
    program.write_text(
        "import os, pathlib, time\n"
        "names = ('RANK', 'LOCAL_RANK', 'WORLD_SIZE', 'CUDA_VISIBLE_DEVICES', 'GROUP_RANK')\n"
        f"place = pathlib.Path('{tmp_path}') / (os.environ['JOB'] + '-' + os.environ['RANK'])\n"
        "place.write_text(' '.join(os.environ[name] for name in names))\n"
        "time.sleep(8)\n"
    )
    starter = tmp_path / "start.py"
    starter.write_text(
        "import argparse, os\nfrom zagreus.launch.ranks import Geometry, add_geometry, torchrun\n"
        "parser = argparse.ArgumentParser()\nadd_geometry(parser)\n"
        "geometry = Geometry.of(parser.parse_args())\n"
        f"command, environment = torchrun('pretrain', 2, ['{program}'], geometry)\n"
        "environment['JOB'] = os.environ['ZAGREUS_JOB']\nos.execve(command[0], command, "
        "environment)\n"
    )
    jobs = []
    for name in ("a", "b"):
        job = tmp_path / f"{name}.sh"
        job.write_text(
            f"#!/bin/sh\nexport ZAGREUS_CONTAINER='{enter}' PYTHONPATH={ROOT} ZAGREUS_JOB={name}\n"
            f"exec {sys.executable} -P -m zagreus.cluster.launch --image {image} --launcher srun "
            "--nodes 2 --gres gpu:a100:2 --cpus 4"
            f" --folder {tmp_path} /opt/venv/bin/python -P {starter}\n"
        )
        arguments = [
            "--parsable",
            "-N2",
            "-n2",
            "-c4",
            "--mem=8000",
            "--gres=gpu:a100:2",
            "--nodelist=a100-01,a100-02",
        ]
        jobs.append(
            cluster.run("sbatch", *arguments, f"--output={tmp_path}/{name}.log", str(job)).strip()
        )
    wait(lambda: len(list(tmp_path.glob("[ab]-?"))) == 8)
    seen = {path.name: path.read_text().split() for path in tmp_path.glob("[ab]-?")}
    devices = {
        name: {tuple(values[3].split(",")) for key, values in seen.items() if key[0] == name}
        for name in ("a", "b")
    }
    assert all(len(visible) == 1 for visible in devices.values()), (
        seen
    )  # both nodes gave the same ones
    one, other = (set(next(iter(devices[name]))) for name in ("a", "b"))
    assert len(one) == len(other) == 2 and not one & other
    for values in seen.values():
        rank, local, world, _, node = values
        assert (int(rank), int(world)) == (2 * int(node) + int(local), 4)
    granted = [job for job in cluster.jobs() if job["JobId"] in jobs]
    assert all("gpu:a100:2" in job["TresPerNode"] for job in granted)
    wait(
        lambda: all(
            job["JobState"] == "COMPLETED" for job in cluster.jobs() if job["JobId"] in jobs
        )
    )


def test_models_are_converted_and_scored_as_jobs(
    cluster: SlurmCluster, undisturbed: dict[str, Any]
) -> None:
    """From the weights to scores and samples, each in its image and through the executor."""
    targets = [
        f"results/slurm-test/samples/ita/{STEP}.json",
        f"results/slurm-test/evaluate/ita/{STEP}/languages.json",
    ]
    assert (MODEL / f"{STEP}.json").exists() or train_under_slurm(cluster).wait() == 0
    for folder in ("samples", "evaluate", "models"):  # of an earlier session
        shutil.rmtree(RESULTS / folder / "ita", ignore_errors=True)
    assert (
        start(
            write_config(2, 2), *targets, *SLURM, "--jobs", "4", environment=cluster.environment
        ).wait()
        == 0
    )
    scores = json.loads((ROOT / targets[1]).read_text())["scores"]
    assert {score["task"] for score in scores} >= {"heldout_ita", "choice_ita"}
    rules = {
        job["Comment"].split("_wildcards")[0]
        for job in cluster.jobs()
        if re.search("convert|evaluate|sample", job.get("Comment", ""))
    }
    assert len(rules) == 3, rules


def post_train_under_slurm(cluster: SlurmCluster) -> subprocess.Popen[bytes]:
    """Start SFT on two nodes, one rank on each, with nothing of an earlier one left."""
    assert (MODEL / f"{STEP}.json").exists() or train_under_slurm(cluster).wait() == 0
    for folder in ("models", "posttrain"):
        shutil.rmtree(RESULTS / folder / "nesso-instruct", ignore_errors=True)
    target = str(SFT.relative_to(ROOT))
    return start(
        write_config(2, 2, posttrain_nodes=2),
        target,
        *SLURM,
        "--jobs",
        "4",
        environment=cluster.environment,
    )


def test_post_training_over_nodes_is_signalled_and_ends_in_the_undisturbed_result(
    cluster: SlurmCluster, undisturbed: object
) -> None:
    """Axolotl under torchrun on each of two nodes.

    Its own report says how many took part, or the script fails.
    """
    assert post_train_under_slurm(cluster).wait() == 0
    left_in_peace = SFT.read_text()
    job = training_job(cluster, "COMPLETED", rule="posttrain")
    assert job and job["NumNodes"] == "2"
    facts = json.loads(left_in_peace)
    assert facts["steps"] > 2 * SAVED and facts["loss_last"] < facts["loss_first"]

    process = post_train_under_slurm(cluster)
    folder = RESULTS / "posttrain" / "nesso-instruct" / "sft"
    wait(lambda: list(folder.glob("*/checkpoints/checkpoint-*/trainer_state.json")), 300)
    job = training_job(cluster, "RUNNING", rule="posttrain")
    assert job
    cluster.run("scancel", "--signal=USR2", job["JobId"])  # as Slurm does before a time limit
    wait(lambda: cluster.run("scontrol", "show", "job", job["JobId"]).count("Restarts=1"))
    steps = [int(path.name.split("-")[1]) for path in folder.glob("*/checkpoints/checkpoint-*")]
    assert max(steps) % SAVED, "a checkpoint of the step in hand"
    assert process.wait() == 0
    assert SFT.read_text() == left_in_peace


def trained_over_nodes(cluster: SlurmCluster, manifest: Path) -> dict[str, Any]:
    """Run the stage of a manifest, after SFT, on two nodes; return what the manifest says."""
    assert SFT.exists() or post_train_under_slurm(cluster).wait() == 0
    config = write_config(2, 2, posttrain_nodes=2)
    target = str(manifest.relative_to(ROOT))
    process = start(config, target, *SLURM, "--jobs", "4", environment=cluster.environment)
    assert process.wait() == 0
    job = training_job(cluster, "COMPLETED", rule="posttrain")
    assert job and job["NumNodes"] == "2" and manifest.parent.name in job["Comment"]
    facts: dict[str, Any] = json.loads(manifest.read_text())
    return facts


def test_dpo_over_nodes(cluster: SlurmCluster, undisturbed: object) -> None:
    """The first step's loss is ln 2, where the model is still its own reference."""
    facts = trained_over_nodes(cluster, DPO)
    assert facts["base"] == "nesso-instruct/sft"
    assert facts["loss_first"] == pytest.approx(math.log(2), abs=1e-3)
    assert facts["loss_last"] < facts["loss_first"]


def test_distillation_over_nodes(cluster: SlurmCluster, undisturbed: object) -> None:
    """The rank of every node answers prompts of its own; the student nears its teacher."""
    facts = trained_over_nodes(cluster, DISTILLED)
    assert facts["teacher"] == "nesso-instruct/dpo" and facts["steps"] == 12
    assert facts["heldout_kl"]["after"] < facts["heldout_kl"]["before"]


@pytest.mark.slow
def test_the_whole_pipeline(cluster: SlurmCluster) -> None:
    """All of config/test.yaml through Slurm, training on two nodes."""
    assert (
        start(
            write_config(2, 1), "all", *SLURM, "--jobs", "4", environment=cluster.environment
        ).wait()
        == 0
    )
    assert (RESULTS / "report.html").exists()


@pytest.mark.slow
def test_the_demo(cluster: SlurmCluster) -> None:
    """All of config/demo.yaml through Slurm, pre-training on two nodes: 40 minutes on two cores."""
    config = yaml.safe_load((ROOT / "config/demo.yaml").read_text())
    config["pathvars"] |= {
        name: folder.replace("results/demo", "results/slurm-demo")
        for name, folder in config["pathvars"].items()
    }
    config["cluster"] = {"nodes": 2, "ranks_per_node": 1}
    path = ROOT / "results" / "slurm-demo.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump(config))
    process, rules = (
        start(path, "all", *SLURM, "--jobs", "3", environment=cluster.environment),
        set(),
    )
    while process.poll() is None:  # Slurm forgets a job five minutes after its end
        rules |= {
            job["Comment"].split("_wildcards")[0]
            for job in cluster.jobs()
            if job.get("Comment", "").startswith(("rule_", "group_"))
        }
        time.sleep(30)
    assert process.returncode == 0
    assert (ROOT / "results" / "slurm-demo" / "report.html").exists()
    assert {"rule_pretrain", "rule_posttrain", "rule_evaluate"} <= rules
