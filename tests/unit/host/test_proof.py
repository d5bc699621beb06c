"""A run is checked against its manifests, compared with another run, and made again."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from zagreus.manifest import write_manifest
from zagreus.processor import processor
from zagreus.proof.audit import choose
from zagreus.proof.compare import compare_runs
from zagreus.proof.run_folder import RunFolder

ROOT = Path(__file__).parents[3]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of three artifacts in `results/a`: text, tokens made from it, a model of the tokens."""
    monkeypatch.chdir(tmp_path)
    make_run(Path("results/a"))
    return Path("results/a")


def make_run(folder: Path, text: str = "a text", seed: int = 1, version: str = "3.0") -> None:
    """Make a run whose tokens depend on the text, and whose model on tokens, seed and version."""
    recipe = Path("recipe.yaml")
    recipe.write_text("steps: 10\n")
    source, tokens, model = folder / "sources/s", folder / "tokens/s", folder / "models/m/10"
    for subfolder in (source, tokens, model, folder / "logs/fetch"):
        subfolder.mkdir(parents=True)
    (folder / "logs/fetch/s.log").write_text("fetched\n")
    (folder / "events.jsonl").write_text("{}\n")
    (source / "0.parquet").write_text(text)
    write_manifest(source / "0.json", kind="source", name="s/0", outputs=[source / "0.parquet"])
    (tokens / "0.ds").write_text(text[::-1])
    inputs = [source / "0.json"]
    write_manifest(
        tokens / "0.json", kind="tokens", name="s/0", inputs=inputs, outputs=[tokens / "0.ds"]
    )
    (model / "model.safetensors").write_text(f"{text} {seed} {version}")
    write_manifest(
        model / "manifest.json",
        kind="model",
        name="m/10",
        inputs=[tokens / "0.json", recipe],
        outputs=[model / "model.safetensors"],
        recipe={"optimizer": {"seed": seed}},
    )
    path = model / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"versions": {"torch": version}}))


def program(script: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a script as bin/zagreus does."""
    command = [sys.executable, "-P", ROOT / "scripts" / f"{script}.py", *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, env=environment)


def test_a_whole_run_holds_wherever_it_lies(run: Path, tmp_path: Path) -> None:
    assert program("verify", run).returncode == 0
    shutil.copytree(run, tmp_path / "elsewhere")
    shutil.rmtree(run)
    done = program("verify", tmp_path / "elsewhere")
    assert done.returncode == 0, done.stdout
    assert "3 artifacts" in done.stdout and "all holds" in done.stdout


def _swap(path: str) -> Callable[[Path], None]:
    """Return what replaces a file by another of the same size and date."""

    def change(run: Path) -> None:
        file = run / path
        before = file.stat()
        file.write_text("x" * before.st_size)
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))

    return change


def _edit_manifest(run: Path) -> None:
    path = run / "tokens/s/0.json"
    path.write_text(path.read_text().replace('"name": "s/0"', '"name": "s/1"'))


def _link_out(run: Path) -> None:
    (run / "tokens/s/0.ds").rename("outside.ds")
    (run / "tokens/s/0.ds").symlink_to(Path("outside.ds").resolve())


def _edit_recipe(run: Path) -> None:
    Path("recipe.yaml").write_text("steps: 11\n")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (_swap("tokens/s/0.ds"), "changed  results/a/tokens/s/0.ds: sha256"),
        (lambda run: (run / "sources/s/0.parquet").unlink(), "missing  results/a/sources/s/0"),
        (lambda run: (run / "tokens/s/0.json").unlink(), "missing  results/a/tokens/s/0.json"),
        (lambda run: (run / "tokens/s/copy.ds").write_text(""), "extra    tokens/s/copy.ds"),
        (_edit_manifest, "changed  results/a/tokens/s/0.json"),
        (_edit_recipe, "changed  recipe.yaml"),
        (_link_out, "link     tokens/s/0.ds: leads out of the run"),
    ],
)
def test_what_does_not_hold_is_one_line(
    run: Path, change: Callable[[Path], None], expected: str
) -> None:
    change(run)
    done = program("verify", run)
    assert done.returncode == 1 and done.stderr == ""
    assert expected in done.stdout and "problem" in done.stdout.splitlines()[-1]


def test_an_input_outside_the_run_that_is_not_here_is_said_and_is_no_problem(run: Path) -> None:
    Path("recipe.yaml").unlink()
    done = program("verify", run)
    assert done.returncode == 0 and "not checked: 1 inputs outside the run" in done.stdout


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{", "tokens/s/0.json: invalid JSON"),
        ('{"kind": "tokens", "outputs": []}', "tokens/s/0.json: a manifest without 'name'"),
        (
            '{"kind": "tokens", "name": "s", "inputs": ["a"], "outputs": []}',
            "expected path, bytes and sha256",
        ),
        (
            '{"kind": "tokens", "name": "s", "inputs": [{"path": "a", "bytes": "1", "sha256": '
            '""}], "outputs": []}',
            "expected a whole number and 64 hexadecimal digits",
        ),
    ],
)
def test_a_manifest_of_another_form_is_one_line(run: Path, text: str, expected: str) -> None:
    (run / "tokens/s/0.json").write_text(text)
    done = program("verify", run)
    assert done.returncode == 2 and expected in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("folder", ["nowhere", "."])
def test_a_folder_that_is_no_run_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = program("verify", folder)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert "results" in done.stderr


def test_equal_runs_in_other_folders_are_the_same(run: Path) -> None:
    make_run(Path("results/b"))
    compared = compare_runs(RunFolder(run), RunFolder(Path("results/b")))
    assert all(pair.same for pair in compared.pairs.values()) and len(compared.pairs) == 3


@pytest.mark.parametrize(
    ("change", "first", "cause", "words"),
    [
        ({"text": "b text"}, "source s/0", "bytes", "sources/s/0.parquet"),
        ({"seed": 2}, "model m/10", "recipe", "recipe.optimizer.seed: 1 against 2"),
        ({"version": "3.1"}, "model m/10", "software", "torch 3.0 against 3.1"),
    ],
)
def test_the_first_artifact_that_differs_is_named_with_the_reason(
    run: Path, change: dict[str, str], first: str, cause: str, words: str
) -> None:
    make_run(Path("results/b"), **change)  # type: ignore[arg-type]
    compared = compare_runs(RunFolder(run), RunFolder(Path("results/b")))
    differing = compared.first_differing
    assert [pair.title for pair in differing] == [first]
    assert any(d.cause == cause and words in d.words for d in differing[0].differences)
    changed = sum(not pair.same for pair in compared.pairs.values())
    assert differing[0].after == changed - 1


def test_another_processor_is_a_reason(run: Path) -> None:
    make_run(Path("results/b"), text="b text")
    metadata = Path("results/b/sources/s/0.run.json")
    metadata.write_text(json.dumps(json.loads(metadata.read_text()) | {"cpu": "x86-64-v3"}))
    compared = compare_runs(RunFolder(run), RunFolder(Path("results/b")))
    words = [d.words for d in compared.first_differing[0].differences if d.cause == "machine"]
    assert words == [f"processor {processor()} against x86-64-v3"]


def test_a_sample_is_reproducible_and_holds_no_downloads(run: Path) -> None:
    folder = RunFolder(run)
    chosen = choose(folder, 2, seed=3)
    assert [item.title for item in chosen] == [item.title for item in choose(folder, 2, seed=3)]
    assert {item.title for item in choose(folder, 9, seed=0)} == {"tokens s/0", "model m/10"}


@pytest.mark.parametrize(
    ("flags", "level"),
    [
        ("sse4_2 popcnt ssse3 avx2 bmi1 bmi2 fma movbe", "x86-64-v3"),
        (
            "sse4_2 ssse3 popcnt avx2 bmi1 bmi2 fma movbe avx512f avx512bw avx512cd avx512dq "
            "avx512vl",
            "x86-64-v4",
        ),
        ("sse2", "x86-64-v1"),
    ],
)
def test_the_level_of_a_processor(tmp_path: Path, flags: str, level: str) -> None:
    (tmp_path / "cpuinfo").write_text(f"model name\t: A CPU\nflags\t\t: {flags}\n")
    assert processor(tmp_path / "cpuinfo") == f"{level}, A CPU"


def test_a_report_is_checked_against_the_crate(run: Path) -> None:
    (run / "report.html").write_text("<p>report")
    assert "extra    report.html" in program("verify", run).stdout
    digest = hashlib.sha256(b"<p>report").hexdigest()
    entity = {"@id": "report.html", "sha256": digest, "contentSize": 9}
    (run / "ro-crate").mkdir()
    (run / "ro-crate/report.html").write_text("<p>report")
    (run / "ro-crate/ro-crate-metadata.json").write_text(json.dumps({"@graph": [entity]}))
    assert program("verify", run).returncode == 0
    (run / "report.html").write_text("<p>REPORT")
    assert "changed  results/a/report.html" in program("verify", run).stdout
