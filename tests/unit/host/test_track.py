"""Scalars in trackers: read back equal, sent once, and a tracker that hangs or refuses.

The trackers' packages are in no environment of this repository: TRACKER_PYTHON names a Python that
has some of them; a tracker that it lacks is skipped.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PYTHON = os.environ.get("TRACKER_PYTHON", sys.executable)

# What prints {run: {step: {name: value}}} of a tracker's folder, by the tracker's own reader.
READERS = {
    "tensorboard": """
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
for place in folder.iterdir():
    if place.is_dir():
        events = EventAccumulator(str(place)); events.Reload()
        for tag in events.Tags()["scalars"]:
            for event in events.Scalars(tag):
                put(place.name, event.step, tag, event.value)
""",
    "wandb": """
from wandb.proto.wandb_internal_pb2 import Record
# A file is a log of LevelDB's form: a head of seven bytes, then blocks of 32 KiB with records of
# checksum (4 bytes), length (2) and kind (1: whole, 2 to 4: first, middle, last part).
import struct
def records(data):
    place, part = 7, b""
    while place + 7 <= len(data):
        if 32768 - place % 32768 < 7:
            place += 32768 - place % 32768
            continue
        length, kind = struct.unpack_from("<HB", data, place + 4)
        part += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):
            yield part
            part = b""
for file in sorted(folder.glob("wandb/offline-run-*/*.wandb")):
    name = None
    for data in records(file.read_bytes()):
        record = Record(); record.ParseFromString(data)
        name = record.run.display_name or name
        step = record.history.step.num
        for item in record.history.item:
            key = item.key or "/".join(item.nested_key)
            if not key.startswith("_"):
                put(name, step, key, json.loads(item.value_json))
""",
    "mlflow": """
import os
os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
from mlflow import MlflowClient
client = MlflowClient(tracking_uri=folder.as_uri())
for experiment in client.search_experiments():
    for run in client.search_runs([experiment.experiment_id]):
        for key in run.data.metrics:
            for metric in client.get_metric_history(run.info.run_id, key):
                put(run.info.run_name, metric.step, key, metric.value)
""",
    "trackio": """
import os
os.environ["TRACKIO_DIR"] = str(folder)
from trackio.sqlite_storage import SQLiteStorage
for project in SQLiteStorage.get_projects():
    for run in SQLiteStorage.get_runs(project):
        for row in SQLiteStorage.get_logs(project, run):
            for key, value in row.items():
                if key not in ("step", "timestamp"):
                    put(run, row["step"], key, value)
""",
}
FRAME = """
import json, sys
from pathlib import Path
folder, found = Path(sys.argv[1]).resolve(), {{}}
def put(run, step, key, value):
    at = found.setdefault(run, {{}}).setdefault(str(int(step)), {{}})
    assert key not in at, f"twice: {{run}} {{step}} {{key}}"
    at[key] = value
{reader}
print(json.dumps(found))
"""


def lines(first: int, last: int, shift: float = 0.0) -> str:
    """Return a training log."""
    records = [{"event": "start", "last_step": last}]
    records += [
        {"step": step, "loss": 9.0 - step / 7 + shift, "learning_rate": step * 1e-5}
        | ({"heldout_losses": {"eng": step / 3}} if step % 2 == 0 else {})
        for step in range(first, last + 1)
    ]
    return "".join(json.dumps(record) + "\n" for record in records)


def expected(*logs: Path) -> dict[str, dict[str, float]]:
    """Return the scalars of logs by step."""
    scalars: dict[str, dict[str, float]] = {}
    for log in logs:
        for line in log.read_text().splitlines():
            record = json.loads(line)
            if "step" in record:
                held = record.pop("heldout_losses", {})
                record |= {f"heldout_losses/{name}": value for name, value in held.items()}
                scalars[str(record.pop("step"))] = record
    return scalars


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with a segment of a training and a stage of post-training."""
    folder = tmp_path / "results/r"
    (folder / "pretrain/ita").mkdir(parents=True)
    (folder / "posttrain/nesso/sft").mkdir(parents=True)
    (folder / "pretrain/ita/4.jsonl").write_text(lines(1, 4))
    (folder / "posttrain/nesso/sft/log.jsonl").write_text(lines(0, 3, 0.5))
    return folder


def track(
    run: Path, tracker: str, *arguments: str | Path, python: str = PYTHON, path: Path = ROOT
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", ROOT / "scripts/track.py", run, "--to", tracker]
    command += ["--python", python, *arguments]
    environment = os.environ | {"PYTHONPATH": f"{path}:{ROOT}"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)


def read_back(tracker: str, folder: Path) -> dict[str, dict[str, dict[str, float]]]:
    program = FRAME.format(reader=READERS[tracker])
    command = [PYTHON, "-c", program, folder]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("tracker", READERS)
def test_scalars_are_read_back_equal_and_sent_once(run: Path, tracker: str) -> None:
    if subprocess.run([PYTHON, "-c", f"import {tracker}"], capture_output=True).returncode:
        pytest.skip(f"no {tracker} in {PYTHON} (TRACKER_PYTHON names another)")
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*.jsonl")}
    done = track(run, tracker)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[:2] == [
        "ita-pretrain: 4 new of 4 steps",
        "nesso-sft: 4 new of 4 steps",
    ]
    assert "0 new of 4" in track(run, tracker).stdout
    (run / "pretrain/ita/9.jsonl").write_text(lines(5, 9))
    assert "ita-pretrain: 5 new of 9 steps" in track(run, tracker).stdout
    # The stage was made anew with another recipe: it becomes another run.
    (run / "posttrain/nesso/sft/log.jsonl").write_text(lines(0, 3, 0.75))
    assert "nesso-sft-2: 4 new of 4 steps" in track(run, tracker).stdout
    scalars = read_back(tracker, run / "tracking" / tracker)
    assert set(scalars) == {"ita-pretrain", "nesso-sft", "nesso-sft-2"}
    rounded = 1e-6 if tracker == "tensorboard" else 0  # which keeps 32-bit floats
    for name, logs in (
        ("ita-pretrain", [run / "pretrain/ita/4.jsonl", run / "pretrain/ita/9.jsonl"]),
        ("nesso-sft-2", [run / "posttrain/nesso/sft/log.jsonl"]),
    ):
        logged = expected(*logs)
        assert scalars[name].keys() == logged.keys()
        for step, values in logged.items():
            assert scalars[name][step] == pytest.approx(values, rel=rounded, abs=0), (name, step)
    assert all(path.stat().st_mtime_ns == moment for path, moment in before.items()
               if "sft" not in str(path))  # fmt: skip


def plant(folder: Path, code: str) -> Path:
    """Write a package `wandb` whose runs do as they are told."""
    folder.mkdir()
    (folder / "wandb.py").write_text(
        "class Settings:\n    def __init__(self, **_): pass\n"
        f"def init(**_):\n    import time\n    {code}\n"
    )
    return folder


@pytest.mark.parametrize(
    ("code", "arguments", "expected"),
    [
        ("time.sleep(60)", ("--timeout", "1"), "error: wandb did not answer in 1 s; the same"),
        ("raise ValueError('no\\napi key')", (), "error: wandb refused (ValueError: no api key)"),
        ("raise SystemExit(3)", (), "error: wandb refused (SystemExit: 3)"),
        ("raise ConnectionError('401 token=abc')", (), "error: "),
    ],
)
def test_a_tracker_that_hangs_or_refuses_is_one_line(
    run: Path, tmp_path: Path, code: str, arguments: tuple[str, ...], expected: str
) -> None:
    planted = plant(tmp_path / "planted", code)
    started = time.monotonic()
    done = track(run, "wandb", *arguments, python=sys.executable, path=planted)
    assert done.returncode != 0 and done.stderr.splitlines()[-1].startswith(expected), done.stderr
    assert "Traceback" not in done.stderr and time.monotonic() - started < 30
    assert not (run / "tracking/wandb/sent.json").exists()  # all of it is sent the next time


def test_bad_input_is_one_line(run: Path, tmp_path: Path) -> None:
    planted = tmp_path / "planted"
    planted.mkdir()
    (planted / "wandb.py").write_text("raise RuntimeError('broken')")
    sent = run / "tracking/wandb/sent.json"
    for done, part in (
        (track(tmp_path / "none", "wandb"), "no such folder, expected the results folder of a run"),
        (track(run, "wandb", python="/no/python"), "--python /no/python: no such program"),
        (track(run, "wandb", python="true"), "--python true: no Python, expected Python 3.11"),
        (track(run, "wandb", "--timeout", "0"), "--timeout: found 0.0, expected seconds above 0"),
        (track(run, "wandb", python=sys.executable, path=planted), "wandb does not start here"),
    ):
        assert done.returncode == 2 and part in done.stderr and done.stderr.count("\n") == 1
    sent.parent.mkdir(parents=True, exist_ok=True)
    sent.write_text("[1]")
    planted = plant(tmp_path / "other", "pass")
    done = track(run, "wandb", python=sys.executable, path=planted)
    assert done.returncode == 2 and "not a list of what was sent" in done.stderr


def test_an_absent_package_says_how_to_get_one(run: Path) -> None:
    if subprocess.run([sys.executable, "-c", "import mlflow"], capture_output=True).returncode == 0:
        pytest.skip("mlflow is here")
    done = track(run, "mlflow", python=sys.executable)
    assert done.returncode == 2 and "no mlflow in this Python; install mlflow in" in done.stderr
