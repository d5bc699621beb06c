"""Each checkpoint as a revision of a repository: exactly the right files, whatever the hub does."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from hub_pushes import TOKEN, Hub, serve

import scripts.publish as script
from zagreus.data import hub as connection
from zagreus.errors import run
from zagreus.manifest import write_manifest

MODELS = {
    "ita": {"pretrain": {"checkpoints": [20, 120]}},
    "nesso": {"posttrain": [{"stage": "sft"}, {"stage": "dpo"}]},
}


@pytest.fixture
def hub() -> Iterator[tuple[str, type[Hub]]]:
    """A hub without repositories."""
    server, handler = serve()
    serving = {"poll_interval": 0.02}
    threading.Thread(target=server.serve_forever, kwargs=serving, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", handler
    server.shutdown()
    server.server_close()


def model(results: Path, name: str, checkpoint: str) -> Path:
    """Make a model folder as convert does."""
    folder = results / "models" / name / checkpoint
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(f"{name} {checkpoint}".encode() * 999)
    (folder / "config.json").write_text('{"same": "in all checkpoints"}')
    (folder / "README.md").write_text(f"# {name}\n")
    outputs = [folder / part for part in ("model.safetensors", "config.json", "README.md")]
    manifest = folder / "manifest.json"
    write_manifest(manifest, kind="model", name=f"{name}/{checkpoint}", outputs=outputs)
    return folder


@pytest.fixture
def configuration(tmp_path: Path) -> Path:
    """A configuration with a run of which all but the last stage is made; one has an export."""
    results = tmp_path / "results"
    for name, checkpoint in (("ita", "20"), ("ita", "120"), ("nesso", "sft")):
        model(results, name, checkpoint)
    export = results / "exports/ita/120/gguf-q8"
    export.mkdir(parents=True)
    (export / "ita.gguf").write_bytes(b"GGUF")
    outputs = [export / "ita.gguf"]
    made_from = [results / "models/ita/120/manifest.json"]
    write_manifest(
        export / "manifest.json", kind="export", name="ita/120", inputs=made_from, outputs=outputs
    )
    config = {
        "pathvars": {"results": str(results)},
        "models": MODELS,
        "publish": {"repo": "owner/zagreus-{model}", "every": "checkpoint"},
    }
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(config))
    return file


@dataclass
class Done:
    """How the program ended, and what it said."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def publish(
    hub: tuple[str, type[Hub]], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., Done]:
    """The program, within this process: its start takes longer than all that it does here."""
    monkeypatch.setattr(connection, "PAUSE", 0.01)
    monkeypatch.setattr(connection, "TIMEOUT", 1.0)
    monkeypatch.setattr(connection, "_ENDPOINT", hub[0])
    monkeypatch.setattr(connection.constants, "ENDPOINT", hub[0])
    monkeypatch.setenv("HF_TOKEN_PATH", "/nonexistent")

    def program(*arguments: str | Path, token: str = TOKEN) -> Done:
        monkeypatch.setenv("HF_TOKEN", token)
        monkeypatch.setattr(sys, "argv", ["publish", *map(str, arguments)])
        code = 0
        try:
            run(script.main)
        except SystemExit as end:
            code = int(end.code or 0)
        said = capfd.readouterr()
        return Done(code, said.out, said.err)

    return program


BASE = {"model.safetensors", "config.json", "README.md", "manifest.json"}
EXPORT = {"ita.gguf"}


def check_revisions(handler: type[Hub], configuration: Path) -> None:
    """Assert that each revision has the right files with the right bytes, and nothing else."""
    results = configuration.parent / "results"
    ita, nesso = (handler.repositories[f"owner/zagreus-{name}"] for name in ("ita", "nesso"))
    assert set(ita.branches) == {"main", "step-20", "step-120"}
    assert set(nesso.branches) == {"main", "sft"}
    assert set(nesso.branches["main"]) == {".gitattributes"}  # the last stage is not made yet
    for branches, branch, folder, more in (
        (ita.branches, "step-20", "ita/20", set()),
        (ita.branches, "step-120", "ita/120", EXPORT),
        (ita.branches, "main", "ita/120", EXPORT),
        (nesso.branches, "sft", "nesso/sft", set()),
    ):
        files = dict(branches[branch])
        files.pop(".gitattributes")
        assert set(files) == BASE | more
        for name in BASE:
            assert files[name] == (results / "models" / folder / name).read_bytes(), (branch, name)


def test_each_checkpoint_is_a_revision(
    publish: Callable[..., Done], hub: tuple[str, type[Hub]], configuration: Path
) -> None:
    done = publish("--configfile", configuration)
    assert done.returncode == 0, done.stderr
    assert "not made yet:" in done.stdout and TOKEN not in done.stdout + done.stderr
    check_revisions(hub[1], configuration)
    for made in hub[1].created:
        assert made.get("private") or made.get("visibility") == "private"
    # Nothing is sent again.
    before = {name: len(repository.commits) for name, repository in hub[1].repositories.items()}
    done = publish("--configfile", configuration)
    assert done.stdout.count("was there already") == 4, done.stdout
    assert {
        name: len(repository.commits) for name, repository in hub[1].repositories.items()
    } == before


def test_a_dry_run_names_the_files_and_asks_nothing(
    publish: Callable[..., Done], hub: tuple[str, type[Hub]], configuration: Path
) -> None:
    done = publish("--configfile", configuration, "--dry-run")
    assert done.returncode == 0, done.stderr
    listed = [line.split()[0] for line in done.stdout.splitlines() if line.startswith("  ")]
    assert sorted(set(listed)) == sorted(BASE | EXPORT) and len(listed) == 4 * 4 + 2 * 1
    assert "owner/zagreus-ita at step-20:" in done.stdout
    assert done.stdout.endswith("nothing was pushed: --dry-run\n") and hub[1].requests == []


@pytest.mark.parametrize("fault", [500, 429, "lost"])
@pytest.mark.parametrize("every", [3, 5])
def test_a_hub_that_fails_now_and_then(
    publish: Callable[..., Done],
    hub: tuple[str, type[Hub]],
    configuration: Path,
    fault: int | str,
    every: int,
) -> None:
    hub[1].every, hub[1].fault = every, fault
    for _ in range(8):  # the same command goes on
        done = publish("--configfile", configuration)
        if done.returncode == 0:
            break
        assert done.returncode == 2 and done.stderr.splitlines()[-1].startswith("error: owner/")
        assert "the same command goes on" in done.stderr.splitlines()[-1]
    assert done.returncode == 0, done.stderr
    check_revisions(hub[1], configuration)


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (401, "wants a token (401)"),
        (403, "the hub refuses (403)"),
        (429, "the hub asks to wait (429"),
        (500, "the hub failed (500)"),
        ("hang", "the hub did not answer"),
    ],
)
def test_a_hub_that_always_fails_is_one_line(
    publish: Callable[..., Done],
    hub: tuple[str, type[Hub]],
    configuration: Path,
    fault: int | str,
    expected: str,
) -> None:
    hub[1].every, hub[1].fault = 1, fault
    done = publish("--configfile", configuration)
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == 2 and len(errors) == 1 and "Traceback" not in done.stderr
    assert expected in errors[0] and "nothing was changed" in errors[0], errors[0]


def test_a_changed_file_and_one_too_many_are_put_right(
    publish: Callable[..., Done], hub: tuple[str, type[Hub]], configuration: Path
) -> None:
    assert publish("--configfile", configuration).returncode == 0
    branch = hub[1].repositories["owner/zagreus-ita"].branches["step-20"]
    branch |= {"config.json": b"other", "left.bin": b"over"}
    done = publish("--configfile", configuration)
    assert "(1 of 4 files sent, 1 others removed)" in done.stdout, done.stdout
    check_revisions(hub[1], configuration)


def test_a_file_that_was_swapped_is_not_pushed(
    publish: Callable[..., Done], hub: tuple[str, type[Hub]], configuration: Path
) -> None:
    path = configuration.parent / "results/models/ita/20/model.safetensors"
    path.write_bytes(b"x" * path.stat().st_size)
    done = publish("--configfile", configuration)
    assert done.returncode == 2 and "its sha256 is another" in done.stderr
    assert not hub[1].requests


def test_one_folder_into_a_branch_with_a_receipt(
    publish: Callable[..., Done], hub: tuple[str, type[Hub]], configuration: Path, tmp_path: Path
) -> None:
    folder, receipt = configuration.parent / "results/models/ita/20", tmp_path / "receipt.json"
    arguments = (folder, "owner/name", "--revision", "step-20", "--receipt", receipt)
    assert publish(*arguments).returncode == 0
    assert json.loads(receipt.read_text())[0]["revision"] == "step-20"
    receipt.unlink()
    done = publish(*arguments, token="")
    assert done.returncode == 2 and "no HF_TOKEN" in done.stderr and not receipt.exists()


def test_arguments_that_say_nothing(publish: Callable[..., Done], configuration: Path) -> None:
    for arguments, expected in (
        ((), "give a model folder and owner/name, or --configfile FILE"),
        ((configuration.parent, "owner/name", "--configfile", configuration), "or --configfile"),
        (("--configfile", "config/test.yaml"), "config/test.yaml: no section `publish` in"),
    ):
        done = publish(*arguments)
        assert done.returncode == 2 and expected in done.stderr and done.stderr.count("\n") == 1
