"""Where the base image comes from; images that were copied."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from zagreus.errors import InputError
from zagreus.platform import base, debian, images
from zagreus.platform.image_manifest import check_image, manifest_of, write_image_manifest

OTHER = f"docker://example.org:5000/some/image:1@sha256:{'0' * 64}"


@pytest.fixture
def archive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "has_archive", lambda: True)


@pytest.fixture
def no_archive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "has_archive", lambda: False)


def test_what_apt_lacks_is_named_and_only_the_base_image_needs_security(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    main = debian.Entry("http://mirror.example/debian", ("trixie",), ("main",), None)
    monkeypatch.setattr(base.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(debian, "read_entries", lambda: [main])
    problem = base.archive_problem.__wrapped__
    assert problem(security=False) == ""
    assert "no entry for Debian's security archive among 1 repositories" in problem()
    monkeypatch.setattr(base.shutil, "which", lambda name: None)
    assert problem(security=False) == "apt-get and dpkg-deb: not found"


def test_without_an_archive_the_registry_serves(tmp_path: Path, no_archive: None) -> None:
    chosen = base.choose(tmp_path, {})
    assert chosen.source == "registry" and chosen.reference.startswith(
        "docker.io/library/python:3.11"
    )


def test_with_an_archive_it_serves(tmp_path: Path, archive: None) -> None:
    assert base.choose(tmp_path, {}).source == "archive"


def test_a_base_that_was_copied_keeps_its_source(tmp_path: Path, no_archive: None) -> None:
    made = base.Base("archive")
    (tmp_path / f"base-{made.digest(True)}.sif").touch()
    assert base.choose(tmp_path, {}) == made


def test_a_file_that_somebody_brought_serves_and_is_in_the_digest(
    tmp_path: Path, archive: None
) -> None:
    (tmp_path / "base-mine.sif").write_text("one")
    chosen = base.choose(tmp_path, {})
    assert (chosen.source, chosen.reference) == ("file", str(tmp_path / "base-mine.sif"))
    before = chosen.digest(False)
    (tmp_path / "base-mine.sif").write_text("two")
    assert chosen.digest(False) != before
    (tmp_path / "base-other.sif").touch()
    with pytest.raises(
        InputError, match=r"2 files base-\*\.sif to build on .*make setup BASE=FILE"
    ):
        base.choose(tmp_path, {})


def test_a_mirror_changes_where_an_image_comes_from_and_not_its_name() -> None:
    usual, mirror = base.registry_base(), base.registry_base("http://mirror.example:5000/hub")
    assert mirror.reference.startswith("mirror.example:5000/hub/library/python") and mirror.insecure
    assert (
        usual.digest(False) == mirror.digest(False) != base.registry_base("", OTHER).digest(False)
    )


def test_sources_and_the_packages_for_gpus_make_other_names() -> None:
    names = {
        origin.digest(gpu)
        for origin in (base.Base("archive"), base.registry_base())
        for gpu in (False, True)
    }
    assert len(names) == 4


@pytest.mark.parametrize(
    ("setting", "line"),
    [
        (
            {"from": "docker://docker.io/library/debian:12"},
            r"base image: found 'docker\.io/library/debian:12', expected .*@sha256:DIGEST",
        ),
        (
            {"from": "registry", "registry": "not an address"},
            "REGISTRY: found 'not an address', expected HOST",
        ),
        ({"from": "nothere.sif"}, r"BASE=nothere\.sif: no such file, expected archive, registry"),
    ],
)
def test_a_setting_that_names_nothing_is_one_line(
    tmp_path: Path, setting: dict[str, str], line: str
) -> None:
    with pytest.raises(InputError, match=line):
        base.choose(tmp_path, setting)


def test_a_registry_that_does_not_answer_is_one_line_and_nothing_is_made(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-P",
        "scripts/base_image.py",
        "--source",
        "registry",
        "--insecure",
        "--digest",
        "0" * 12,
    ]
    command += [
        "--reference",
        f"127.0.0.1:1/some/image@sha256:{'0' * 64}",
        "--output",
        str(tmp_path / "base-x.sif"),
    ]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": ".", "PATH": "/usr/bin:/bin"},
    )
    assert done.returncode == 2
    assert re.match(
        r"error: 127\.0\.0\.1:1: the registry does not answer \(.*refused\); set another one",
        done.stderr.splitlines()[-1],
    )
    assert list(tmp_path.iterdir()) == []


def test_a_definition_is_filled_in_or_refused() -> None:
    assert images.fill("From: {{ base }}\n", {"base": "x"}) == "From: x\n"
    with pytest.raises(InputError, match="no value for base"):
        images.fill("From: {{ base }}\n", {})


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    image = tmp_path / "train-0123456789ab.sif"
    image.write_bytes(b"an image")
    write_image_manifest(image, {"digest": "0123456789ab"})
    check_image(image)
    return image


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda image: image.write_bytes(b"an imagf"), "sha256 is .*, expected .*; copy it again"),
        (lambda image: image.write_bytes(b"an ima"), "6 bytes, expected 8; copy it again"),
        (
            lambda image: manifest_of(image).unlink(),
            r"no train-0123456789ab\.manifest\.json beside it",
        ),
        (lambda image: manifest_of(image).write_text("{"), "invalid JSON"),
    ],
)
def test_a_copy_that_differs_is_one_line(copied: Path, change: object, line: str) -> None:
    assert callable(change)
    change(copied)
    with pytest.raises(InputError, match=line):
        check_image(copied)


def test_an_image_for_another_kind_of_processor_is_refused(copied: Path) -> None:
    manifest = json.loads(manifest_of(copied).read_text()) | {"architecture": "aarch64"}
    manifest_of(copied).write_text(json.dumps(manifest))
    with pytest.raises(InputError, match="built for aarch64, this machine is "):
        check_image(copied)
