"""A run against the hashes that the repository keeps, by kind of processor."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from zagreus.errors import InputError
from zagreus.launch.variables import PORTABLE as TABLE
from zagreus.launch.variables import with_variables
from zagreus.manifest import write_manifest
from zagreus.processor import PORTABLE, kind_of, processor
from zagreus.proof.reference import (
    check,
    product_version,
    read_reference,
    reference_path,
    rows_of,
    write_reference,
)
from zagreus.proof.run_folder import RunFolder

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(PORTABLE, raising=False)
    return tmp_path


def make(folder: Path, text: str = "a", weights: str = "w", seed: int = 1) -> RunFolder:
    """Make a run of text, a model of the text and a recipe, and a report; return it."""
    shutil.rmtree(folder, ignore_errors=True)
    Path("recipe.yaml").write_text("steps: 1\n")
    for part in ("sources/s", "models/m/1", "tables"):
        (folder / part).mkdir(parents=True)
    source, model = folder / "sources/s/0.json", folder / "models/m/1/manifest.json"
    (folder / "sources/s/0.parquet").write_text(text)
    outputs = [folder / "sources/s/0.parquet"]
    write_manifest(source, kind="source", name="s/0", outputs=outputs)
    (folder / "models/m/1/model.safetensors").write_text(weights)
    outputs = [folder / "models/m/1/model.safetensors"]
    inputs = [source, Path("recipe.yaml")]
    write_manifest(model, kind="model", name="m/1", inputs=inputs, outputs=outputs, seed=seed)
    (folder / "tables/jobs.csv").write_text(os.urandom(4).hex())
    outputs = [folder / "tables/jobs.csv"]
    write_manifest(folder / "tables/manifest.json", kind="tables", name="run", outputs=outputs)
    return RunFolder(folder)


def test_an_equal_run_elsewhere_equals_the_reference(tmp_path: Path) -> None:
    run = make(Path("results/r"))
    path = reference_path(run)
    write_reference(path, rows_of(run, "1.0"))
    assert path == Path("reference/hashes_r.csv")
    shutil.copytree("results/r", tmp_path / "elsewhere")
    again = RunFolder(tmp_path / "elsewhere")
    checked = check(again, read_reference(reference_path(again)), "1.0")
    kind = kind_of(processor())
    assert checked.lines() == [f"2 of 2 artifacts equal the reference ({kind}, version 1.0)"]
    # Times are in no manifest, and tables hold times.
    assert check(make(Path("results/r")), read_reference(path), "1.0").equal == 2


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            {"weights": "v"},
            ["models/m/1/manifest.json is the first", "  bytes     other bytes on "],
        ),
        ({"text": "b"}, ["sources/s/0.json is the first", "  bytes     other bytes"]),
        (
            {"seed": 2, "weights": "v"},
            ["models/m/1/manifest.json is the first", "  recipe    another recipe, seed or option"],
        ),
    ],
)
def test_the_first_that_differs_is_named(change: dict[str, str], expected: list[str]) -> None:
    write_reference(Path("r.csv"), rows_of(make(Path("results/r")), "1.0"))
    lines = check(make(Path("results/r"), **change), read_reference(Path("r.csv")), "1.0").lines()
    assert lines[0].startswith("1 of 2 artifacts equal")
    for line, start in zip(lines[1:], expected, strict=True):
        assert line.startswith(start)


def test_recipe_image_and_version_are_named_as_causes() -> None:
    write_reference(Path("r.csv"), rows_of(make(Path("results/r")), "1.0"))
    make(Path("results/r"), weights="v")
    Path("recipe.yaml").write_text("steps: 2\n")
    path = Path("results/r/models/m/1/manifest.json")
    manifest = json.loads(path.read_text()) | {"software": "train-1"}
    manifest["inputs"][1]["sha256"] = "0" * 64
    path.write_text(json.dumps(manifest))
    checked = check(RunFolder(Path("results/r")), read_reference(Path("r.csv")), "2.0")
    assert [cause.cause for cause in checked.causes] == ["input", "software", "code"]
    assert checked.causes[0].words.startswith("recipe.yaml is another file")


def test_another_kind_of_processor_has_no_reference() -> None:
    rows = rows_of(make(Path("results/r")), "1.0")
    write_reference(Path("r.csv"), [row.__class__(**row.__dict__ | {"kind": "x"}) for row in rows])
    lines = check(make(Path("results/r")), read_reference(Path("r.csv")), "1.0").lines()
    assert len(lines) == 1 and lines[0].endswith("; kept are x")
    assert check(make(Path("results/r")), [], "1.0").lines()[0].endswith("none is kept of any kind")
    # Another kind's rows stay where one kind's are written anew.
    write_reference(Path("r.csv"), rows)
    write_reference(Path("r.csv"), rows)
    kept = read_reference(Path("r.csv"))
    assert len(kept) == 2 * len(rows) and {row.kind for row in kept} == {"x", rows[0].kind}


def test_a_missing_and_an_extra_artifact_are_named() -> None:
    write_reference(Path("r.csv"), rows_of(make(Path("results/r")), "1.0"))
    run = make(Path("results/r"))
    moved = replace(run.artifacts.pop("sources/s/0.json"), path="more.json")
    run.artifacts["more.json"] = moved
    checked = check(run, read_reference(Path("r.csv")), "1.0")
    assert (checked.equal, checked.total) == (1, 3)
    assert checked.causes[0].cause in ("missing", "extra")


def test_several_kinds_and_other_columns_are_refused() -> None:
    run = make(Path("results/r"))
    (item,) = [item for item in run.artifacts.values() if item.manifest["kind"] == "model"]
    run.artifacts["other.json"] = item.__class__(
        "other.json", item.manifest, {"cpu": "x86-64-v2, AMD Old"}
    )
    with pytest.raises(InputError, match="made on several kinds of processors"):
        rows_of(run, "1.0")
    Path("r.csv").write_text("artifact,sha\n")
    with pytest.raises(InputError, match="columns artifact, sha, expected artifact, sha256"):
        read_reference(Path("r.csv"))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("x86-64-v4, Intel(R) Xeon(R) Processor", "x86-64-v4 Intel"),
        ("x86-64-v3, AMD EPYC 7763 64-Core Processor", "x86-64-v3 AMD"),
        ("portable, x86-64-v4, Intel(R) Xeon(R)", "portable"),
        ("aarch64", "aarch64"),
    ],
)
def test_the_kind_of_a_processor(name: str, kind: str) -> None:
    assert kind_of(name) == kind


def test_the_portable_mode_marks_manifests(monkeypatch: pytest.MonkeyPatch) -> None:
    native = processor()
    write_manifest("a.json", kind="model", name="a")
    monkeypatch.setenv(PORTABLE, "1")
    assert processor() == (f"portable, {native}" if "-v3" in native or "-v4" in native else native)
    assert write_manifest("b.json", kind="model", name="b")["arithmetic"] == "portable"
    assert "arithmetic" not in json.loads(Path("a.json").read_text())
    command = with_variables(
        TABLE, f"{sys.executable} -c 'import os; print(os.environ[\"MKL_CBWR\"])'"
    )
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert done.stdout == "COMPATIBLE\n"


def test_the_command(tmp_path: Path) -> None:
    shutil.copy(ROOT / "CITATION.cff", tmp_path)
    assert product_version().count(".") == 2
    make(Path("results/r"))

    def compare(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-P", ROOT / "scripts/compare.py", *arguments]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        return subprocess.run(command, capture_output=True, text=True, env=environment)

    assert "no reference is kept" in compare("results/r", "--reference").stderr
    assert compare("results/r", "--write-reference").stdout.startswith(
        "reference/hashes_r.csv: 2 a"
    )
    done = compare("results/r", "--reference")
    assert done.returncode == 0 and done.stdout.startswith("2 of 2 artifacts equal")
    make(Path("results/r"), weights="v")
    assert compare("results/r", "--reference").returncode == 1
    assert "give two runs, or one run with" in compare("results/r").stderr
