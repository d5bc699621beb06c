"""The live page: what it makes of a run's events and logs, what it serves, and that it only reads.

The events of one real run of Snakemake, and of starts that were killed, stopped or edited.
"""

from __future__ import annotations

import http.client
import json
import os
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from zagreus.live.event_file import EventFileReader
from zagreus.live.events import NAME, EventLog, process_start, ranks_of
from zagreus.live.layers import direct_links, layers
from zagreus.live.lines import GrowingFile
from zagreus.live.run_state import RunState
from zagreus.live.server import PAGE, PageServer
from zagreus.live.snapshot import Snapshots, thinned
from zagreus.live.trainings import Trainings, seconds_left
from zagreus.training.events import EventFile

ROOT = Path(__file__).parents[3]
NOW = 1_000_000.0
LOG = "results/r/logs/pretrain/ita/20.log"
JOBS = [[1, "fetch", "fetch source=a"], [2, "pretrain", "pretrain model=ita step=20"]]


def start(**changes: Any) -> dict[str, Any]:
    """Return the event of a start with two jobs, made by this process."""
    return {
        "event": "start",
        "time": NOW,
        "version": 1,
        "process": [platform.node(), os.getpid(), process_start(os.getpid())],
        "executor": "local",
        "folders": {"results": "results/r", "logs": "results/r/logs"},
        "jobs": JOBS,
        "there": {"environment": 2},
        "links": [["environment", "fetch"], ["fetch", "pretrain"], ["environment", "pretrain"]],
        "models": {"ita": ["20", "120"]},
        "plan": {
            "prices": {"currency": "EUR", "rank_hour": 2.0, "cpu_hour": 0.1},
            "max_cost": 9,
        },
    } | changes


def job(number: int, moment: float, ranks: int = 0, cpus: int = 1) -> dict[str, Any]:
    where = {"id": number, "log": [LOG], "ranks": ranks, "cpus": cpus}
    return {"event": "job", "time": moment, **where}


def event(name: str, number: int, moment: float) -> dict[str, Any]:
    return {"event": name, "time": moment, "id": number}


def end(moment: float, name: str = "end") -> dict[str, Any]:
    return {"event": name, "time": moment}


def write(folder: Path, *events: dict[str, Any], more: str = "") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / NAME).write_text("".join(json.dumps(record) + "\n" for record in events) + more)


DONE = [start(), job(1, NOW), event("done", 1, NOW + 9), job(2, NOW + 9, 2)]
GONE = {"process": [platform.node(), 2**22 + 7, 12]}


@pytest.mark.parametrize(
    ("events", "state", "counts"),
    [
        ([start()], "running", {"waiting": 2}),
        (DONE, "running", {"done": 1, "running": 1}),
        ([*DONE, event("done", 2, NOW + 20), end(NOW + 20)], "done", {"done": 2}),
        ([*DONE, event("failed", 2, NOW + 20), end(NOW + 20)], "failed", {"done": 1, "failed": 1}),
        ([*DONE, event("failed", 2, NOW + 20), job(2, NOW + 21)], "running",
         {"done": 1, "running": 1}),
        ([*DONE, end(NOW + 15, "stopping"), event("failed", 2, NOW + 16), end(NOW + 17)], "stopped",
         {"done": 1, "stopped": 1}),
        ([start(**GONE), *DONE[1:]], "killed", {"done": 1, "running": 1}),
        # A host that cannot be asked is believed.
        ([start(process=["elsewhere", 5, 7]), *DONE[1:]], "running", {"done": 1, "running": 1}),
        # The same run, started again: what was done is not in the new start.
        ([*DONE, start(time=NOW + 99, jobs=JOBS[1:])], "running", {"waiting": 1}),
        # Lines of another form, edited by hand or cut.
        ([start(), {"event": "job"}, {"event": "done", "time": "x", "id": 1}, {"time": 3}],
         "running", {"waiting": 2}),
    ],
)  # fmt: skip
def test_a_run_is_told_from_its_events(
    tmp_path: Path, events: list[dict[str, Any]], state: str, counts: dict[str, int]
) -> None:
    write(tmp_path, *events, more='{"event":"do')
    run = RunState(tmp_path)
    run.refresh()
    assert run.state() == state
    assert {name: count for name, count in run.counts().items() if count} == counts


def test_under_a_cluster_a_job_runs_once_it_writes_its_log(tmp_path: Path) -> None:
    write(tmp_path, start(executor="slurm"), job(2, time.time()))
    run = RunState(tmp_path)
    run.refresh()
    assert run.counts()["queued"] == 1
    log = tmp_path / "logs/pretrain/ita/20.log"
    log.parent.mkdir(parents=True)
    log.write_text("begun\n")
    run.refresh()
    assert run.counts()["running"] == 1 and run.counts()["queued"] == 0


def test_hours_and_cost_are_of_all_starts(tmp_path: Path) -> None:
    # 1 h of four cores; two ranks in a start that was killed; 1 h of a rank.
    write(
        tmp_path,
        *(start(), job(1, NOW, 0, 4), event("done", 1, NOW + 3600), job(2, NOW + 3600, 2)),
        start(time=NOW + 90000),
        *(job(2, NOW + 90000, 1), event("done", 2, NOW + 93600), end(NOW + 93600)),
    )
    cost = Snapshots(tmp_path).take()["cost"]
    assert cost["rank_hours"] == pytest.approx(1.0)  # nothing is known of the killed job's end
    assert cost["cpu_hours"] == pytest.approx(4.0)
    assert cost["cost"] == pytest.approx(2.4) and cost["max_cost"] == 9


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ({}, 0),
        ({"nodes": 2, "ranks": 8, "gres": "gpu:8"}, 16),
        ({"nodes": 1, "gres": "gpu:a100:4"}, 4),
        ({"gres": ""}, 0),
    ],
)
def test_ranks_of_a_job(resources: dict[str, Any], expected: int) -> None:
    assert ranks_of(resources) == expected


def test_a_cut_line_is_ended_and_a_full_disk_ends_the_recording_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / NAME).write_text('{"event":"do')
    EventLog(tmp_path / NAME).append("end", NOW)
    assert (tmp_path / NAME).read_text().splitlines() == [
        '{"event":"do',
        '{"event":"end","time":1000000.0}',
    ]
    log = EventLog(Path("/dev/full"))
    log.append("end")
    log.append("end")
    assert capsys.readouterr().err.count("warning: /dev/full: cannot be written (No space") == 1


def test_lines_come_once_and_anew_where_the_file_was_made_anew(tmp_path: Path) -> None:
    file = GrowingFile(tmp_path / "log")
    assert file.read() == (False, [])
    (tmp_path / "log").write_text("one\ntw")
    assert file.read() == (False, [b"one"])
    with open(tmp_path / "log", "a") as stream:
        stream.write("o\n")
    assert file.read() == (False, [b"two"])
    (tmp_path / "new").write_text("other\n")
    (tmp_path / "new").rename(tmp_path / "log")
    assert file.read() == (True, [b"other"])
    os.mkfifo(tmp_path / "pipe")
    assert GrowingFile(tmp_path / "pipe").read() == (False, [])


def test_the_event_file_is_read_as_it_grows(tmp_path: Path) -> None:
    written = EventFile(tmp_path)
    path = tmp_path / "events.out.tfevents.0"
    reader = EventFileReader(path)
    written.add({"step": 1, "loss": 2.5, "heldout": {"eng": 3.0}})
    assert reader.read() == (False, [{"step": 1, "loss": 2.5, "heldout/eng": 3.0}])
    written.add({"step": 300, "loss": 1.25})
    written.close()
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    assert reader.read() == (False, [])
    path.write_bytes(whole)
    assert reader.read() == (False, [{"step": 300, "loss": 1.25}])
    EventFile(tmp_path).close()
    assert reader.read() == (True, [])
    path.write_bytes(os.urandom(999))
    assert EventFileReader(path).read()[1] == []


def make_training(results: Path) -> None:
    """Make a training whose first segment is finished and whose second runs, and a stage of SFT."""
    folder = results / "pretrain/ita"
    folder.mkdir(parents=True)
    first = [{"event": "start", "last_step": 2, "ranks": 2}]
    first += [{"step": 1, "loss": 9.0, "seconds": 2.0}, {"step": 2, "loss": 8.0, "seconds": 2.0}]
    (folder / "2.jsonl").write_text("".join(json.dumps(line) + "\n" for line in first))
    running = EventFile(folder / "tensorboard/120")
    for step in (3, 4):
        running.add({"step": step, "loss": 8.0 - step, "tokens_per_second": 50.0, "seconds": 4.0})
    running.close()
    log = results / "logs/posttrain/nesso/sft.log"
    log.parent.mkdir(parents=True)
    log.write_bytes(
        b"Map: 100%|##| 400/400 [00:01<00:00]\n"
        b"  0%|   | 0/30 [00:00<?, ?it/s]\r 33%|#  | 10/30 [00:01<00:02]\n"
        b"{'loss': 3.5, 'grad_norm': 1.0, 'learning_rate': 0.001, 'epoch': 0.33}\n"
        b" 67%|## | 20/30 [00:02<00:01]{'loss': '2.5', 'learning_rate': '1e-4', 'epoch': '0.67'}\n"
        b" 50%|##  | 1/2 [00:00<00:01]"
        b"{'eval_loss': 2.25, 'epoch': 0.67}\n{'loss': broken}\n"
    )


def test_trainings_are_read_while_they_run(tmp_path: Path) -> None:
    make_training(tmp_path)
    reader = Trainings(tmp_path, tmp_path / "logs")
    ita, sft = reader.refresh()
    assert [(point["step"], point["loss"]) for point in ita.points] == [
        (1, 9.0), (2, 8.0), (3, 5.0), (4, 4.0)
    ]  # fmt: skip
    assert not ita.finished and seconds_left(ita.points, 120) == 116 * 3.0
    assert sft.stage == "sft" and sft.segments[0][1].last_step == 30
    assert [(point["step"], point["loss"]) for point in sft.points] == [(10, 3.5), (20, 2.5)]
    assert sft.points[-1]["eval_loss"] == 2.25
    # Once it is finished its log is what counts.
    (tmp_path / "pretrain/ita/120.jsonl").write_text('{"step": 3, "loss": 5.125}\n')
    assert reader.refresh()[0].points[-1] == {"step": 3, "loss": 5.125}


def test_layers_and_links_of_the_rules() -> None:
    links = [("fetch", "tokenize"), ("tokenize", "pretrain"), ("fetch", "pretrain"), ("x", "fetch")]
    rules = ["pretrain", "fetch", "tokenize", "alone"]
    assert layers(rules, links) == [["fetch", "alone"], ["tokenize"], ["pretrain"]]
    assert layers(["a", "b"], [("a", "b"), ("b", "a")]) == [["a", "b"]]
    assert direct_links(links) == [("fetch", "tokenize"), ("tokenize", "pretrain"), ("x", "fetch")]


def test_a_curve_is_thinned_to_its_means() -> None:
    curve = [(float(step), float(step % 10)) for step in range(1000)]
    small = thinned(curve, 50)
    assert len(small) <= 50 and small[-1] == [999.0, 9.0]
    assert thinned(curve[:3], 50) == [[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[PageServer]:
    """The page of a run that trains, served on a free port."""
    folder = tmp_path / "results/r"
    make_training(folder)
    log = tmp_path / LOG
    log.parent.mkdir(parents=True)
    log.write_text(
        "<script>alert(1)</script>\rstep 5 of https://me:secret@host/ \x1b[31mred\x1b[0m\n"
    )
    write(folder, *DONE)
    served = PageServer(Snapshots(folder), "127.0.0.1", 0)
    threading.Thread(target=served.serve_forever, daemon=True).start()
    yield served
    served.shutdown()
    served.server_close()


def ask(
    server: PageServer, path: str, method: str = "GET", host: str | None = None
) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=20)
    connection.request(method, path, headers={"Host": host} if host else {})
    answer = connection.getresponse()
    return answer.status, answer.read()


def test_the_page_is_served_and_nothing_is_written(server: PageServer, tmp_path: Path) -> None:
    def files() -> dict[str, tuple[int, int]]:
        every = list(tmp_path.rglob("*"))
        return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in every}

    before = files()
    status, page = ask(server, "/")
    assert status == 200 and page == PAGE.read_bytes()
    status, text = ask(server, "/state.json?open=2,zwei,-1")
    state = json.loads(text)
    assert status == 200 and state["counts"] == {"running": 1, "done": 1}
    assert [rule["rule"] for layer in state["layers"] for rule in layer] == [
        "environment", "fetch", "pretrain"
    ]  # fmt: skip
    training = state["trainings"][0]
    assert (training["step"], training["last_step"], training["loss"]) == (4, 120, 4.0)
    assert training["tokens_per_second"] == 50.0
    assert files() == before


@pytest.mark.parametrize(
    ("path", "method", "host", "status"),
    [
        ("/", "GET", "localhost:8765", 200),
        ("/", "HEAD", "[::1]:99", 200),
        ("/", "GET", "evil.example", 403),
        ("/state.json", "GET", "10.0.0.1", 403),
        ("/../../etc/passwd", "GET", None, 404),
        ("/", "POST", None, 501),
    ],
)
def test_only_this_machine_may_read_two_addresses(
    server: PageServer, path: str, method: str, host: str | None, status: int
) -> None:
    assert ask(server, path, method, host)[0] == status


def test_logs_lose_secrets_and_signs_of_the_terminal(server: PageServer) -> None:
    os.utime(server.snapshots.root / "logs/pretrain/ita/20.log", (NOW + 60, NOW + 60))
    running = json.loads(ask(server, "/state.json?open=2")[1])["jobs"]["running"]
    assert running[0]["lines"] == ["step 5 of https://[secret]@host/ red"]


def test_the_page_asks_nobody_else() -> None:
    page = PAGE.read_text()
    assert page.count("http") == 1 and "http://www.w3.org/2000/svg" in page  # a name, no address
    assert "innerHTML" not in page


def program(*arguments: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", ROOT / "scripts/watch.py", *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        command, capture_output=True, text=True, env=environment, cwd=cwd, timeout=60
    )


def test_bad_input_is_one_line(server: PageServer, tmp_path: Path) -> None:
    run = tmp_path / "results/r"
    (tmp_path / "empty").mkdir()
    port = str(server.server_address[1])
    for arguments, expected in (
        ((run, "--port", port), f"error: port {port} is in use"),
        ((run, "--port", "70000"), "error: --port: found 70000, expected 0 to 65535"),
        ((run, "--host", "192.0.2.1"), "error: --host 192.0.2.1: no address of this machine"),
        ((run, "--host", "no.such.name.invalid"), "error: --host no.such.name.invalid: no address"),
        ((tmp_path / "none",), f"error: {tmp_path / 'none'}: no such folder, expected the results"),
        ((tmp_path / "empty",), f"error: {tmp_path / 'empty'}: nothing of a run in this folder"),
    ):
        done = program(*arguments)
        assert done.returncode == 2 and done.stderr.startswith(expected), done.stderr
        assert done.stderr.count("\n") == 1
    done = program(cwd=tmp_path / "empty")
    assert done.stderr.startswith("error: results: no run with events.jsonl"), done.stderr


def test_an_older_run_shows_its_trainings(tmp_path: Path) -> None:
    make_training(tmp_path)
    state = Snapshots(tmp_path).take()
    assert state["state"] == "unknown" and "no such file" in state["note"]
    assert [training["name"] for training in state["trainings"]] == ["ita", "nesso"]


SNAKEFILE = """
from zagreus.live.events import record_start
rule all:
    input: expand("out/{i}", i=range(3))
rule work:
    output: "out/{i}"
    log: "results/r/logs/work/{i}.log"
    shell: "echo said > {log}; test {wildcards.i} != {config[bad]} && touch {output}"
onstart:
    record_start(workflow, {"pathvars": {"results": "results/r", "logs": "results/r/logs",
        "benchmarks": "b"}, "models": {}})
"""


@pytest.mark.parametrize(("bad", "state"), [("1", "failed"), ("none", "done")])
def test_a_run_of_snakemake_leaves_its_events(tmp_path: Path, bad: str, state: str) -> None:
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    snakemake = Path(sys.executable).parent / "snakemake"
    command = [snakemake, "--cores", "1", "--logger", "zagreus", "--config", f"bad={bad}", "-k"]
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'profiles/logger'}:{ROOT}"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode == 0) == (state == "done"), done.stderr
    run = Snapshots(tmp_path / "results/r")
    shown = run.take()
    assert shown["state"] == state and shown["total"] == 4
    assert [[rule["rule"] for rule in layer] for layer in shown["layers"]] == [["work"], ["all"]]
    if state == "failed":
        assert shown["counts"] == {"done": 2, "failed": 1, "waiting": 1}
        (failed,) = shown["jobs"]["failed"]
        assert failed["name"] == "work i=1"
    assert sorted(path.name for path in (tmp_path / "results/r").iterdir()) == [NAME, "logs"]
