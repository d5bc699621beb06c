"""How ranks are started, where they meet, how long a training job asks for.

What Slurm does is in tests/integration.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from zagreus.cluster.allocation import PORTS, meeting_port
from zagreus.cluster.runtime import (
    BEGIN,
    START,
    job_minutes,
    segment_minutes,
    stage_minutes,
    step_seconds,
)
from zagreus.config.long_form import read_config
from zagreus.errors import InputError
from zagreus.launch.ranks import Geometry, add_geometry, torchrun
from zagreus.launch.variables import (
    DEMANDED,
    PASSED,
    TABLES,
    WITHOUT_GPU,
    environment_of,
    is_passed,
)

ROOT = Path(__file__).parents[3]


def test_two_jobs_do_not_meet_on_one_port() -> None:
    ports = {meeting_port(job) for job in range(1000, 1050)}
    assert len(ports) == 50 and all(port in PORTS for port in ports)


def test_a_port_that_is_taken_is_passed_over() -> None:
    first = meeting_port(4711)
    with socket.socket() as taken:
        taken.bind(("", first))
        taken.listen()
        assert meeting_port(4711) not in (first, meeting_port(4712))


def test_one_node_meets_on_the_loopback_interface() -> None:
    command, environment = torchrun("pretrain", 4, ["train.py", "--x"], environment={})
    assert (
        command[-2:] == ["train.py", "--x"]
        and "127.0.0.1:0" in command
        and "--master-addr" not in command
    )
    assert environment["GLOO_SOCKET_IFNAME"] == "lo"


def test_a_node_among_others_has_its_number_and_the_first_ones_address() -> None:
    command, environment = torchrun(
        "pretrain",
        8,
        ["train.py"],
        Geometry(8, 3, "node01:16001"),
        environment={"NCCL_DEBUG": "INFO"},
    )
    options = dict(zip(command[4:-1:2], command[5:-1:2]))
    assert options == {
        "--nproc-per-node": "8",
        "--nnodes": "8",
        "--node-rank": "3",
        "--master-addr": "node01",
        "--master-port": "16001",
    }
    assert (
        environment["NCCL_DEBUG"] == "INFO" and "GLOO_SOCKET_IFNAME" not in environment
    )  # a site's own setting stays


@pytest.mark.parametrize(
    ("options", "environment", "words"),
    [
        (["--nodes", "2", "--node-number", "1", "--meeting", "a:1"], {"ZAGREUS_NODES": "2"}, None),
        ([], {}, None),
        ([], {"ZAGREUS_NODES": "8"}, "--nodes 1, but the launcher has 8 nodes"),
        ([], {"SLURM_STEP_NUM_NODES": "2"}, "--nodes 1, but this Slurm step has 2 nodes"),
        (
            ["--nodes", "2", "--node-number", "2", "--meeting", "a:1"],
            {},
            "--node-number 2: no such node",
        ),
        (
            ["--nodes", "2", "--node-number", "-1", "--meeting", "a:1"],
            {},
            "--node-number -1: no such node",
        ),
        (["--nodes", "2"], {}, "--meeting '': expected HOST:PORT"),
        (["--nodes", "2", "--meeting", "host"], {}, "--meeting 'host': expected HOST:PORT"),
    ],
)
def test_a_node_that_believes_it_is_alone_stops(
    options: list[str], environment: dict[str, str], words: str | None
) -> None:
    parser = argparse.ArgumentParser()
    add_geometry(parser)
    if words is None:
        assert Geometry.of(parser.parse_args(options), environment).nodes == (2 if options else 1)
        return
    with pytest.raises(InputError, match=re.escape(words)):
        Geometry.of(parser.parse_args(options), environment)


def test_the_launcher_starts_one_machine_of_several_nowhere(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-P",
        "-m",
        "zagreus.cluster.launch",
        "--nodes",
        "2",
        "--folder",
        str(tmp_path),
    ]
    done = subprocess.run(
        [*command, "touch", str(tmp_path / "ran")], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 2 and "this machine would train alone" in done.stderr
    assert not (tmp_path / "ran").exists()


def test_each_program_has_a_table_of_variables() -> None:
    """Among them: what FSDP must not have, and what hides torch's own choice."""
    made = {program: environment_of(program, {"X": "1"}, Path("dumps")) for program in TABLES}
    assert made["pretrain"]["CUDA_DEVICE_MAX_CONNECTIONS"] == "1"
    assert "CUDA_DEVICE_MAX_CONNECTIONS" not in made["posttrain"]
    for environment in made.values():
        assert environment["X"] == "1" and "TORCH_NCCL_ASYNC_ERROR_HANDLING" not in environment
        assert environment["TORCH_FR_BUFFER_SIZE"] == "2000"
        assert environment["TORCH_NCCL_DUMP_ON_TIMEOUT"] == "1"
        assert environment["TORCH_NCCL_DEBUG_INFO_TEMP_FILE"].startswith("dumps/")
        assert environment["TORCHINDUCTOR_CACHE_DIR"].startswith(tempfile.gettempdir())
    assert environment_of("posttrain", {"HF_HUB_OFFLINE": "0"})["HF_HUB_OFFLINE"] == "1"
    assert environment_of("pretrain", {"NCCL_DEBUG": "INFO"})["NCCL_DEBUG"] == "INFO"
    every = [
        *WITHOUT_GPU,
        *(variable for table in (*TABLES.values(), *DEMANDED.values()) for variable in table),
    ]
    assert all(variable.reason for variable in every) and all(PASSED.values())


@pytest.mark.parametrize(
    "name",
    ["TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "TORCH_LOGS", "NCCL_IB_HCA", "FI_PROVIDER"],
)
def test_a_sites_variables_reach_the_images(name: str) -> None:
    assert is_passed(name) and not is_passed(f"X{name}")


def test_the_time_asked_for_follows_from_the_plan(tmp_path: Path) -> None:
    """1,000 steps of 1,048,576 tokens at 4.136 GFLOP a token, on 64 ranks at 35 % of 312 TFLOP/s.

    620 s; half as much again, and the start.
    """
    config = read_config(ROOT / "config.yaml")
    assert segment_minutes(step_seconds(config, tmp_path, "spa") or 0, 1000) == START + 16
    config["cluster"]["nodes"] = 4
    assert segment_minutes(step_seconds(config, tmp_path, "spa") or 0, 1000) == START + 32
    assert step_seconds(config | {"plan": {}}, tmp_path, "spa") is None


def test_what_was_measured_replaces_the_assumption(tmp_path: Path) -> None:
    config = read_config(ROOT / "config.yaml")
    (tmp_path / "pretrain/ita").mkdir(parents=True)
    lines = [
        {"event": "start", "ranks": 64},
        {"step": 1, "tokens_per_second": 64 * 10_000},
    ]  # 26,400 a rank are assumed
    (tmp_path / "pretrain/ita/95000.jsonl").write_text(
        "".join(json.dumps(line) + "\n" for line in lines)
    )
    for model in ("ita", "spa"):  # by its own log, and by that of a model with the same recipe
        assert step_seconds(config, tmp_path, model) == 1_048_576 / 640_000
    assert segment_minutes(1_048_576 / 640_000, 1000) == START + math.ceil(1.5 * 1000 * 1.6384 / 60)


def write_benchmark(file: Path, seconds: float) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"s\tmax_rss\n{seconds}\t1\n")


def test_a_stage_is_timed_by_the_rows_of_another(tmp_path: Path) -> None:
    config = read_config(ROOT / "config.yaml")
    arguments = (config, tmp_path, tmp_path / "benchmarks", "open-zagreus", "sft")
    assert stage_minutes(*arguments) is None
    write_benchmark(tmp_path / "benchmarks/posttrain/nesso-instruct/sft.tsv", 3600)
    for name, rows in {
        "chat/open.json": 4000,
        "posttrain/nesso-instruct/sft/log.jsonl": 1000,
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(json.dumps({"rows": rows}) + "\n")
    assert stage_minutes(*arguments) == START + 1.5 * 4 * 60
    recipe = tmp_path / "limited.yaml"  # its steps are counted, and not its epochs
    recipe.write_text("max_steps: 30\n")
    for model in ("nesso-instruct", "open-zagreus"):
        config["models"][model]["posttrain"][0]["recipe"] = str(recipe)
    assert stage_minutes(*arguments) == START + 1.5 * 60


def test_another_job_is_timed_by_the_longest_of_its_rule(tmp_path: Path) -> None:
    assert job_minutes(tmp_path, "evaluate") is None
    for task in range(1000):  # thousands of files are not all read
        write_benchmark(tmp_path / f"evaluate/ita/{task}.tsv", 600)
    assert job_minutes(tmp_path, "evaluate") == BEGIN + 20
