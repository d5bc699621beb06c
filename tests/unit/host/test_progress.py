"""What a run says: the time left, a job that fails, the end; told from Snakemake's own records."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
from logging import ERROR, INFO, LogRecord, makeLogRecord
from pathlib import Path
from typing import Any

import pytest
from snakemake_interface_logger_plugins.common import LogEvent
from snakemake_interface_logger_plugins.tests import MockOutputSettings, TestLogHandlerBase

ROOT = Path(__file__).parents[3]
PLUGIN = ROOT / "profiles" / "logger"
sys.path.insert(0, str(PLUGIN))

from snakemake_logger_plugin_zagreus import LogHandler  # noqa: E402
from snakemake_logger_plugin_zagreus.estimate import Estimate  # noqa: E402
from snakemake_logger_plugin_zagreus.event_lines import EventLines, _span  # noqa: E402
from snakemake_logger_plugin_zagreus.reference import Reference, configuration  # noqa: E402

SNAKEFILE = """
rule all:
    input: expand("out/{i}", i=range(5))

rule work:
    output: "out/{i}"
    log: "logs/work/{i}.log"
    shell: "(printf 'one\\\\rtwo\\\\n'; test {wildcards.i} != {config[bad]}) > {log} 2>&1; touch {output}"
"""  # noqa: E501


def record(
    event: LogEvent | None, created: float, message: str = "", level: int = INFO, **attributes: Any
) -> LogRecord:
    return makeLogRecord(
        {"event": event, "created": created, "msg": message, "levelno": level, **attributes}
    )


def start(job: int, created: float, log: Path | None = None) -> LogRecord:
    attributes = {
        "jobid": job,
        "rule_name": "pretrain",
        "wildcards": {"model": "ita", "step": job},
        "benchmark": None,
    }
    return record(LogEvent.JOB_INFO, created, log=[str(log)] if log else [], **attributes)


def test_the_estimate_is_the_one_by_hand() -> None:
    estimate = Estimate({"fetch": 4, "pretrain": 3, "report": 1})
    # Two downloads at a time, 10 s each: each adds 5 s to the run. One training job alone: 30 s.
    for job, (begin, end) in enumerate([(0, 10), (0, 10), (10, 20), (10, 20)]):
        if begin == 10 and job == 2:
            assert estimate.left(10.0) is None
        estimate.start(job, "fetch", begin)
        if job % 2:
            estimate.stop(job - 1, end)
            estimate.stop(job, end)
    estimate.start(4, "pretrain", 20.0)
    estimate.stop(4, 50.0)
    estimate.start(5, "pretrain", 50.0)
    # Left: two training jobs of 30 s less the 12 s that one has run; a report, never timed, at the
    # mean of the five: (4 * 5 + 30) / 5 = 10.
    assert estimate.left(62.0) == pytest.approx((2 * 30 - 12 + 10, 1))


def test_a_rule_not_timed_yet_costs_what_it_did_in_earlier_runs(tmp_path: Path) -> None:
    for name, seconds in {"one": 100.0, "sub/two": 300.0}.items():
        path = tmp_path / "pretrain" / f"{name}.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"s\th:m:s\n{seconds}\t-\n")
    estimate = Estimate({"fetch": 4, "pretrain": 2})
    for job in range(4):
        estimate.start(job, "fetch", 0.0, str(tmp_path / "fetch" / f"{job}.tsv"))
    for job in range(4):
        estimate.stop(job, 8.0)
    # Two jobs of 200 s on the mean, four at a time as far as was seen.
    assert estimate.left(8.0) == pytest.approx((2 * 200 / 4, 0))


def drawn(slowness: float) -> Reference:
    """Return reference times of ten short jobs and two long ones, on a machine so much slower than
    this one was measured to be."""
    seconds = {("fetch", f"s{number}"): 1.0 for number in range(10)}
    seconds |= {("pretrain", "ita/40"): 30.0, ("pretrain", "ita/240"): 150.0}
    return Reference(seconds, {"python": slowness, "matrices": slowness})


@pytest.mark.parametrize(("measured", "real"), [(1.0, 1.0), (3.0, 3.0), (1.5, 1.1), (2.0, 2.8)])
def test_reference_times_tell_the_time_left_from_the_first_job_on(measured, real) -> None:
    """Within a factor of 1.5 wherever the measurement of the speed is."""
    estimate = Estimate({"fetch": 10, "pretrain": 2}, drawn(measured))
    assert estimate.left(0.0) == pytest.approx((190 * measured, 0))
    plan = [("fetch", f"s{number}", 1.0) for number in range(10)]
    plan += [("pretrain", "ita/40", 30.0), ("pretrain", "ita/240", 150.0)]
    now = 0.0
    for job, (rule, name, seconds) in enumerate(plan):
        estimate.start(job, rule, now, f"results/demo/benchmarks/{rule}/{name}.tsv")
        for part in range(1, 5):
            passed = now + seconds * real * part / 5
            told, truth = estimate.left(passed), 190 * real - passed
            assert told is not None and truth / 1.5 <= told[0] <= truth * 1.5 + 0.1, (name, part)
        now += seconds * real
        estimate.stop(job, now)
    assert estimate.left(now) == (0.0, 0)


def test_jobs_without_reference_times_cost_the_mean_of_their_rule() -> None:
    estimate = Estimate({"fetch": 3}, drawn(2.0))
    assert estimate.left(0.0) == pytest.approx((3 * 2 * 1.0, 0))


def test_the_reference_belongs_to_a_configuration_of_the_repository(monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    for arguments, name in (
        (["all", "--configfile", "config/demo.yaml"], "demo"),
        (["all", "--configfile=config/demo.yaml", "-j", "1"], "demo"),
        (["all"], ""),
        (["--configfile"], ""),
        (["--configfile", "/tmp/demo.yaml"], ""),
    ):
        assert configuration(arguments) == name, arguments


def test_a_failure_names_the_job_and_ends_with_its_log(tmp_path: Path) -> None:
    log = tmp_path / "40.log"
    log.write_text(
        "\n".join(f"line {number}" for number in range(50))
        + "\n 10%\r 20%\r\x1b[1m 30%\nerror: bad thing\n"
    )
    event_lines = EventLines()
    list(event_lines.lines(record(LogEvent.RUN_INFO, 0.0, stats={"pretrain": 2, "total": 2}), True))
    list(event_lines.lines(start(40, 0.0, log), True))
    told = (
        "RuleException:\nCalledProcessError in file \"x\", line 3:\nCommand 'x' returned "
        "non-zero exit status 137."
    )
    assert list(event_lines.lines(record(LogEvent.ERROR, 35.0, told, ERROR), True)) == []
    failure = record(
        LogEvent.JOB_ERROR,
        35.0,
        level=ERROR,
        jobid=40,
        rule_name="pretrain",
        log=[str(log)],
        rule_msg=None,
        shellcmd="x",
    )
    lines = [line for line, _ in event_lines.lines(failure, True)]
    assert "FAILED  pretrain model=ita step=40, after 35 s, with exit status 137" in lines[0]
    assert str(log) in lines[1] and len(lines) == 2 + 20
    assert lines[2] == "    line 32" and lines[-2:] == ["     30%", "    error: bad thing"]
    end = [line for line, _ in event_lines.end()]
    assert "FAILED: 1 of 2 jobs failed, 0 done" in end[0] and end[1].endswith(str(log))


def test_an_interrupted_run_is_no_failure() -> None:
    event_lines = EventLines()
    list(event_lines.lines(record(LogEvent.RUN_INFO, 0.0, stats={"pretrain": 1, "total": 1}), True))
    list(event_lines.lines(start(40, 0.0), True))
    list(
        event_lines.lines(
            record(None, 1.0, "Terminating processes on user request, this might take some time."),
            True,
        )
    )
    failure = record(
        LogEvent.JOB_ERROR,
        1.0,
        level=ERROR,
        jobid=40,
        rule_name="pretrain",
        log=[],
        rule_msg=None,
        shellcmd="x",
    )
    assert list(event_lines.lines(failure, True)) == []
    assert [("STOPPED" in line, "FAILED" in line) for line, _ in event_lines.end()] == [
        (True, False)
    ]


def test_the_block_shows_what_a_running_job_says_now_but_not_what_it_said_in_another_run(
    tmp_path: Path,
) -> None:
    log = tmp_path / "40.log"
    log.write_text("epoch 1: 10%\repoch 1: 20%")
    written = log.stat().st_mtime
    event_lines = EventLines()
    list(
        event_lines.lines(
            record(LogEvent.RUN_INFO, written, stats={"pretrain": 1, "total": 1}), False
        )
    )
    list(event_lines.lines(start(40, written - 1, log), False))
    assert event_lines.block(written + 5)[1] == "  pretrain model=ita step=40 (6 s)  epoch 1: 20%"
    list(event_lines.lines(start(40, written + 1, log), False))
    assert event_lines.block(written + 5)[1] == "  pretrain model=ita step=40 (4 s)"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.2, "1 s"), (99.4, "99 s"), (540, "9 min"), (7500, "2 h 05 min"), (273600, "3 d 4 h")],
)
def test_spans(seconds: float, said: str) -> None:
    assert _span(seconds) == said


def test_an_error_of_the_display_leaves_the_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = MockOutputSettings()
    settings.printshellcmds = False
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    handler = LogHandler(settings, None)
    assert handler.own
    handler.handle(
        record(LogEvent.RUN_INFO, time.time(), "Job stats: two jobs", stats=None)
    )  # not what Snakemake sends
    handler.handle(record(None, time.time(), "a message"))
    handler.close()
    said = sys.stderr.getvalue()  # type: ignore[attr-defined]
    assert (
        "no progress display" in said
        and "Job stats: two jobs" in said
        and said.rstrip().endswith("a message")
    )


def _run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    (folder / "Snakefile").write_text(SNAKEFILE)
    command = [
        sys.executable,
        "-m",
        "snakemake",
        "--logger",
        "zagreus",
        "--cores",
        "1",
        "--scheduler",
        "greedy",
        *arguments,
    ]
    environment = {**os.environ, "PYTHONPATH": f"{PLUGIN}:{ROOT}"}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120
    )


def test_a_run_without_a_terminal_says_one_line_per_job(tmp_path: Path) -> None:
    failed = _run(tmp_path, "--config", "bad=3", "-k")
    assert (
        failed.returncode == 1
        and "FAILED  work i=3" in failed.stderr
        and "    two\n" in failed.stderr
    )
    assert "FAILED: 1 of 6 jobs failed, 4 done" in failed.stderr and "\x1b" not in failed.stderr
    done = _run(tmp_path, "--config", "bad=no", "--rerun-triggers", "mtime")
    lines = done.stderr.splitlines()
    assert (
        done.returncode == 0
        and lines[0] == "2 jobs: work 1, all 1"
        and "  2 jobs done, in" in lines[-1]
    )
    assert ["1/2  work i=3" in line for line in lines].count(True) == 1 and len(lines) == 5
    assert (
        "Nothing to be done"
        in _run(tmp_path, "--config", "bad=no", "--rerun-triggers", "mtime").stderr
    )
    assert "rule work:" in _run(tmp_path, "-n", "--forceall", "--config", "bad=no").stdout


class TestInterface(TestLogHandlerBase):
    """The interface's own tests, with every event, by the display and by Snakemake's handler."""

    __test__ = True

    @pytest.fixture(autouse=True, params=[False, True], ids=["own", "theirs"])
    def _shown(self, request: pytest.FixtureRequest) -> Any:
        self.printshellcmds = request.param
        self.handlers: list[LogHandler] = []
        yield
        for handler in self.handlers:
            assert handler.own is not request.param, "the display gave up"
            handler.close()

    def get_log_handler_cls(self) -> type[LogHandler]:
        return LogHandler

    def get_log_handler_settings(self) -> Any:
        return None

    def _create_handler(self) -> LogHandler:
        settings = MockOutputSettings()
        settings.printshellcmds = self.printshellcmds
        handler = LogHandler(settings, None)
        self.handlers.append(handler)
        return handler
