"""A full disk under every script of the data's image."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import huggingface_hub.hf_api  # noqa: F401 - the libraries are there before the scripts fork
import matplotlib.pyplot  # noqa: F401
import pandas  # noqa: F401
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hub_server import serve
from hub_users import USERS, User, prepare
from reporting_run import PLAN, TASKS, family, write_benchmarks, write_run

from tests.unit.forked import run_script
from tests.unit.full_disk import ROOMS, SAID, check, filled, small_disk

WORDS = [
    "il",
    "gatto",
    "dorme",
    "sul",
    "tetto",
    "della",
    "casa",
    "e",
    "la",
    "pioggia",
    "cade",
    "piano",
    "mentre",
    "il",
    "vento",
    "porta",
    "le",
    "foglie",
    "lungo",
    "la",
    "strada",
]


@dataclass(frozen=True)
class Inputs:
    """What the scripts read."""

    folder: Path

    @property
    def source(self) -> Path:
        return self.folder / "sources/own/00000.json"

    @property
    def tokenizer(self) -> Path:
        return self.folder / "tokenizer/manifest.json"

    @property
    def items(self) -> Path:
        return self.folder / "evaluation_data/heldout.json"

    @property
    def shard(self) -> Path:
        return self.folder / "tokens/own/00000.json"


def _entry(folder: Path) -> str:
    columns = {"text_column": "text", "id_column": "id", "tasks": 1, "heldout": 0.2}
    return json.dumps(
        {"kind": "local", "folder": str(folder / "text"), "language": "ita", **columns}
    )


def _text(number: int) -> str:
    return (
        " ".join(WORDS[(number * 7 + index * (number % 5 + 1)) % len(WORDS)] for index in range(30))
        + f" {number}"
    )


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    folder = tmp_path_factory.mktemp("inputs")
    (folder / "text").mkdir()
    table = {
        "id": [f"d{number}" for number in range(2000)],
        "text": [_text(number % 1900) for number in range(2000)],
    }
    pq.write_table(pa.table(table), folder / "text/0.parquet")
    made = Inputs(folder)
    for name in ("fetch", "tokenizer", "tokenize", "fetch_evaluation"):
        done = run_script(f"scripts/{name}.py", SCRIPTS[name](made, folder))
        assert done.status == 0, done.stderr
    return made


# How each script is called on the inputs, with what it makes below a folder.
SCRIPTS: dict[str, Callable[[Inputs, Path], list[object]]] = {
    "fetch": lambda inputs, out: [
        "--name",
        "own",
        "--source",
        _entry(inputs.folder),
        "--task",
        0,
        out / "sources/own/00000.json",
    ],
    "tokenizer": lambda inputs, out: [
        *(
            out / "tokenizer/manifest.json",
            "--tokenizer",
            '{"kind": "train", "vocab_size": 300}',
            "--sources",
            inputs.source,
        )
    ],
    "tokenize": lambda inputs, out: [
        "--source",
        inputs.source,
        "--tokenizer",
        inputs.tokenizer,
        out / "tokens/own/00000.json",
    ],
    "tokenize shuffled": lambda inputs, out: [
        *(
            "--source",
            inputs.source,
            "--tokenizer",
            inputs.tokenizer,
            "--shuffle-seed",
            1,
            out / "tokens/own/00000.json",
        )
    ],
    "index_tokens": lambda inputs, out: [
        "--source",
        "own",
        "--language",
        "ita",
        "--tasks",
        1,
        "--folder",
        inputs.shard.parent,
        out / "tokens/own.json",
    ],
    "deduplicate": lambda inputs, out: [
        *(
            "--name",
            "own",
            "--method",
            "minhash",
            "--language",
            "ita",
            out / "clean/own.json",
            "--sources",
            inputs.source,
        )
    ],
    "clean": lambda inputs, out: [
        *(
            "--source",
            inputs.source,
            "--clean",
            '{"quality": {"gopher_quality": {"min_doc_words": 5}}}',
            out / "clean/own/00000.json",
        )
    ],
    "fetch_evaluation": lambda inputs, out: [
        *(
            "--name",
            "heldout",
            "--entry",
            '{"kind": "heldout", "language": "ita", "sources": ["own"]}',
            "--inputs",
            inputs.source,
        ),
        *("--output", out / "evaluation_data/heldout.parquet"),
    ],
    "contamination": lambda inputs, out: [
        *(
            "--name",
            "own/00000/ita",
            "--text",
            inputs.source,
            "--items",
            inputs.items,
            "--output",
            out / "contamination/ita.json",
        )
    ],
}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", 16) as mounted:
        yield mounted


# Loads filters, or runs datatrove's four steps: seconds for each start.
LONG = ("clean", "deduplicate")


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] if name in LONG else []) for name in SCRIPTS],
)
def test_scripts(name: str, inputs: Inputs, disk: Path) -> None:
    rooms = (4096, 32768) if name in LONG else ROOMS
    check(
        disk,
        lambda: run_script(f"scripts/{name.split()[0]}.py", SCRIPTS[name](inputs, disk)),
        rooms,
    )


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    server, _ = serve(prepare(tmp_path_factory.mktemp("hub")), "")
    threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
    ).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


# Two keep temporary files, which may lie on the same disk.
DOWNLOADS = [pytest.param(user, False, id=user.name) for user in USERS if user.name != "pin"]
DOWNLOADS += [
    pytest.param(user, True, id=f"{user.name} with temporary files")
    for user in USERS
    if user.name in ("tokenizer", "fetch_evaluation")
]


@pytest.mark.parametrize(("user", "temporary"), DOWNLOADS)
def test_downloads(user: User, temporary: bool, hub: str, disk: Path, tmp_path: Path) -> None:
    variables = {
        "HF_ENDPOINT": hub,
        "HF_HOME": str(tmp_path / "home"),
        "HF_TOKEN": None,
        "HF_HUB_DISABLE_XET": "1",
    }
    arguments = user.arguments("owner/open", disk)
    if temporary:
        variables["TMPDIR"] = str(disk)
    check(disk, lambda: run_script(user.script, arguments, variables))


def test_a_configuration_is_whole_or_as_it_was(hub: str, disk: Path, tmp_path: Path) -> None:
    user = next(user for user in USERS if user.name == "pin")
    arguments = user.arguments("owner/open", disk)
    before = (disk / "config.yaml").read_text()
    variables = {"HF_ENDPOINT": hub, "HF_HOME": str(tmp_path / "home"), "HF_TOKEN": None}
    with filled(disk, 0):
        done = run_script(user.script, arguments, variables)
    assert (
        done.status == 74
        and SAID.search(done.error)
        and (disk / "config.yaml").read_text() == before
    )


def test_the_report(tmp_path: Path, disk: Path) -> None:
    """Tables, figures, report and crate, each on what the one before made."""
    manifests = write_run(tmp_path / "run")
    write_benchmarks(tmp_path / "run/benchmarks")
    options = [
        "--models",
        json.dumps(family()),
        "--tasks",
        json.dumps(TASKS),
        "--plan",
        json.dumps(PLAN),
    ]
    options += [
        "--reference",
        "reference",
        "--benchmarks",
        tmp_path / "run/benchmarks",
        "--output",
        disk / "tables",
    ]
    steps: list[tuple[str, list[object]]] = [
        ("tabulate", [*manifests, *options]),
        ("plot", ["--tables", disk / "tables", "--output", disk / "figures"]),
        (
            "report",
            [
                *manifests,
                "--name",
                "small",
                "--tables",
                disk / "tables",
                "--figures",
                disk / "figures",
                "--output",
                disk / "report.html",
            ],
        ),
    ]
    for name, arguments in steps:
        check(disk, partial(run_script, f"scripts/{name}.py", arguments), rooms=(8192,))


def test_the_log_on_the_full_disk_holds_the_line(inputs: Inputs, disk: Path) -> None:
    """What a job wrote is removed before the log gets its last line."""
    log = disk / "tokenizer.log"
    with filled(disk, 8192):
        done = run_script("scripts/tokenizer.py", SCRIPTS["tokenizer"](inputs, disk), log=log)
    assert done.status == 74
    last = done.stderr.splitlines()[-1]
    assert (
        SAID.search(last)
        and last.endswith(f"; traceback: {log}")
        and "Traceback (most recent call last)" in done.stderr
    )
