"""How ranks are started, where they meet, how long a training job asks for. What Slurm does is in tests/integration."""

from __future__ import annotations

import socket
from pathlib import Path

import yaml

from zagreus.cluster.allocation import PORTS, meeting_port
from zagreus.cluster.runtime import START, segment_minutes
from zagreus.ranks import ENVIRONMENT, torchrun

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
    command, environment = torchrun(4, ["train.py", "--x"], {})
    assert command[-2:] == ["train.py", "--x"] and "127.0.0.1:0" in command and "--master-addr" not in command
    assert environment["GLOO_SOCKET_IFNAME"] == "lo" and environment.items() >= ENVIRONMENT.items()


def test_a_node_among_others_has_its_number_and_the_first_ones_address() -> None:
    given = {"ZAGREUS_NODES": "8", "ZAGREUS_NODE": "3", "ZAGREUS_MEETING": "node01:16001", "NCCL_DEBUG": "INFO"}
    command, environment = torchrun(8, ["train.py"], given)
    options = dict(zip(command[4:-1:2], command[5:-1:2]))
    assert options == {
        "--nproc-per-node": "8",
        "--nnodes": "8",
        "--node-rank": "3",
        "--master-addr": "node01",
        "--master-port": "16001",
    }
    assert environment["NCCL_DEBUG"] == "INFO" and "GLOO_SOCKET_IFNAME" not in environment  # a site's own setting stays


def test_the_time_asked_for_follows_from_the_plan() -> None:
    """1,000 steps of 1,048,576 tokens at 4.136 GFLOP a token, on 64 ranks at 35 % of 312 TFLOP/s: 620 s; half as much again, and the start."""
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    recipe = ROOT / "recipes/pretrain/zagreus.yaml"
    assert segment_minutes(config, recipe, 1000) == START + 16
    config["cluster"]["nodes"] = 4
    assert segment_minutes(config, recipe, 1000) == START + 32
    assert segment_minutes(config | {"plan": {}}, recipe, 1000) is None
