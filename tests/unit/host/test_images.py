"""The wheelhouse, the digests that name images, reading of the machine's apt sources."""

from __future__ import annotations

import ctypes.util
import hashlib
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from zagreus.errors import InputError
from zagreus.platform import apptainer, debian, disk, naming, probe, wheels
from zagreus.platform.builds import BUILDS
from zagreus.platform.digest import digest
from zagreus.platform.progress import run_counted
from zagreus.platform.state import read_platform

LOCKS = sorted(Path("envs").glob("*.lock"))


def make_wheel(
    folder: Path, name: str = "tiny_package", version: str = "1.0", content: str = ""
) -> Path:
    """Write the smallest wheel that pip installs (binary distribution format, PEP 427)."""
    info = f"{name}-{version}.dist-info"
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}.py", content)
        archive.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
        archive.writestr(
            f"{info}/WHEEL",
            "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        archive.writestr(
            f"{info}/RECORD", f"{name}.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n"
        )
    return path


def make_lock(path: Path, wheel: Path) -> Path:
    path.write_text(
        "tiny-package==1.0 \\\n    "
        f"--hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n"
    )
    return path


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_committed_locks_are_pinned_hashed_and_name_no_place(lock: Path) -> None:
    assert len(wheels.read_lock(lock)) > 1
    text = lock.read_text()
    assert (
        "://" not in text
        and "find-links" not in text
        and "index-url" not in text
        and " @ " not in text
    )


def test_images_agree_on_the_versions_they_share() -> None:
    shared = {
        line.split("==")[0]: line.split("==")[1]
        for line in Path("envs/constraints.txt").read_text().splitlines()
        if "==" in line
    }
    for lock in LOCKS:
        if lock.stem.split(".")[0] not in naming.NAMES:
            continue
        for pin in wheels.read_lock(lock):
            if pin.name in shared:
                assert pin.version.removesuffix("+cpu") == shared[pin.name], (lock, pin.name)


# The release of torch of each build, and a package that only this build has.
TORCH = {
    "cpu": ("2.13.0+cpu", None),
    "cuda12": ("2.10.0", "nvidia-cublas-cu12"),
    "cuda13": ("2.13.0", "nvidia-cublas"),
}


@pytest.mark.parametrize("build", BUILDS)
def test_each_lock_takes_its_own_build_of_torch(build: str) -> None:
    release, library = TORCH[build]
    for name in ("train", "posttrain", "evaluate"):
        pins = {
            pin.name: pin.version for pin in wheels.read_lock(Path(f"envs/{name}.{build}.lock"))
        }
        libraries = {
            other for other in pins if other.startswith("nvidia-") and other != "nvidia-ml-py"
        }
        assert pins["torch"] == release
        assert library in libraries if library else not libraries


def test_wheelhouse_script_takes_what_is_there_and_lists_it(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path)
    lock = make_lock(tmp_path / "some.lock", wheel)
    (tmp_path / "wheels").mkdir()
    shutil.copy(wheel, tmp_path / "wheels")
    done = run_wheelhouse(lock, tmp_path)
    assert done.returncode == 0, done.stderr
    assert hashlib.sha256(wheel.read_bytes()).hexdigest() in (tmp_path / "some.json").read_text()


def test_wheelhouse_script_refuses_other_bytes_in_one_line(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path)
    lock = make_lock(tmp_path / "some.lock", wheel)
    (tmp_path / "wheels").mkdir()
    # What the index offers now: the same name and version, other bytes.
    (tmp_path / "index").mkdir()
    make_wheel(tmp_path / "index", content="print('not what was locked')")
    done = run_wheelhouse(
        lock, tmp_path, "--pip=--no-index", f"--pip=--find-links={tmp_path / 'index'}"
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: wheels of some: ")
    assert "HASHES" in done.stderr
    assert not (tmp_path / "some.json").exists()


def run_wheelhouse(lock: Path, folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-P",
        "scripts/wheelhouse.py",
        "--lock",
        str(lock),
        "--python",
        wheels.running_python(),
        "--folder",
        str(folder / "wheels"),
        "--disk",
        "1",
    ]
    command += [*more, "--output", str(folder / "some.json")]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "line", ["numpy>=2", "numpy==2.3.5", "./local.whl --hash=sha256:" + "0" * 64]
)
def test_a_lock_that_is_not_pinned_and_hashed_is_refused(tmp_path: Path, line: str) -> None:
    lock = tmp_path / "bad.lock"
    lock.write_text(line + "\n")
    with pytest.raises(InputError, match=r"bad\.lock: entry 1 is .*expected 'NAME==VERSION"):
        wheels.read_lock(lock)


def test_describe_files_names_the_file_with_other_bytes(tmp_path: Path) -> None:
    make_wheel(tmp_path)
    pin = wheels.Pin("tiny-package", "1.0", frozenset({"0" * 64}))
    with pytest.raises(InputError, match="tiny_package-1.0.*sha256 is"):
        wheels.describe_files(tmp_path, [pin], wheels.running_python())
    assert wheels.missing_pins(tmp_path, [pin], wheels.running_python()) == [pin]


def test_digest_changes_with_any_part_and_with_where_a_byte_stands(tmp_path: Path) -> None:
    first, second = tmp_path / "base.def", tmp_path / "train.lock"
    first.write_bytes(b"ab")
    second.write_bytes(b"c")
    before = digest([first, second])
    assert len(before) == 12 and before == digest([first, second])
    second.write_bytes(b"d")
    changed = digest([first, second])
    first.write_bytes(b"a")
    second.write_bytes(b"bc")
    assert len({before, changed, digest([first, second])}) == 3


def test_virtual_environment_from_a_wheelhouse_is_known_as_complete_only_where_it_was_made(
    tmp_path: Path,
) -> None:
    wheel = make_wheel(tmp_path, content="ANSWER = 42")
    lock = make_lock(tmp_path / "some.lock", wheel)
    folder = tmp_path / "environment"
    wheels.make_environment(folder, [lock], tmp_path)
    said = subprocess.run(
        [folder / "bin/python", "-c", "import tiny_package; print(tiny_package.ANSWER)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout == "42\n"
    assert wheels.is_complete(folder, [lock])
    folder.rename(tmp_path / "moved")
    assert not wheels.is_complete(tmp_path / "moved", [lock])


SOURCES = """
# comment
Types: deb
# dated
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Enabled: no
Types: deb
URIs: http://disabled.example/debian
Suites: bookworm
Components: main
"""
LIST = """
# deb http://commented.example/debian bookworm main
deb-src http://source.example/debian bookworm main
deb http://packages.example.com/apt cloud main
deb [arch=amd64 signed-by=/keys/debian-archive.gpg] http://other.example/debian/ bookworm main non-free  # trailing
deb http://security.example/debian-security bookworm-security main
"""  # noqa: E501


@pytest.mark.parametrize(
    ("name", "text", "main", "security"),
    [
        (
            "debian.sources",
            SOURCES,
            "http://mirror.example/debian",
            "http://mirror.example/debian-security",
        ),
        (
            "debian.list",
            LIST,
            "http://other.example/debian/",
            "http://security.example/debian-security",
        ),
    ],
)
def test_the_machines_own_mirror_is_found_in_both_styles(
    tmp_path: Path, name: str, text: str, main: str, security: str
) -> None:
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list.d" / name).write_text(text)
    entries = debian.read_entries(tmp_path)
    assert debian.find_archive(entries).uri == main
    assert debian.find_archive(entries, security=True).uri == security
    assert (
        "disabled" not in str(entries)
        and "commented" not in str(entries)
        and "source.example" not in str(entries)
    )
    assert debian.source_line(debian.find_archive(entries), "unstable").endswith(
        f"{main} unstable main"
    )


def test_a_machine_without_debian_sources_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no entry for Debian's archive among 0 repositories"):
        debian.find_archive(debian.read_entries(tmp_path))


def test_too_little_disk_is_one_line_with_needed_found_and_where(tmp_path: Path) -> None:
    disk.require_disk(tmp_path / "not" / "there", 0.001, "a test")
    with pytest.raises(
        InputError, match=rf"a test needs 1000000000.0 GB on the disk of {tmp_path}, .* GB are free"
    ):
        disk.require_disk(tmp_path, 1e12, "a test")


@pytest.mark.skipif(shutil.which("apptainer") is None, reason="no apptainer on PATH")
@pytest.mark.skipif(
    ctypes.util.find_library("seccomp") is None,
    reason="no libseccomp, to take the namespaces away with",
)
def test_without_namespaces_the_set_up_offers_the_run_without_containers(
    tmp_path: Path,
) -> None:
    program = (
        "import sys; from pathlib import Path; sys.path.insert(0, 'scripts/setup'); import setup;"
        "setup.TOOLS = Path(sys.argv[1]); from zagreus.errors import run; run(setup.find_apptainer)"
    )
    # The private Apptainer of the folder is the one on PATH, in its own words.
    private = tmp_path / "apptainer" / "bin-private"
    private.mkdir(parents=True)
    (private / "apptainer").write_text(
        f'#!/bin/sh\n# {tmp_path / "apptainer"}\nexec {shutil.which("apptainer")} "$@"\n'
    )
    (private / "apptainer").chmod(0o755)
    done = subprocess.run(
        [
            sys.executable,
            Path(__file__).with_name("without_namespaces.py"),
            sys.executable,
            "-c",
            program,
            tmp_path,
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2, done.stderr
    said = done.stderr.strip().splitlines()[-1]
    reason = r"Failed to create user namespace: .*|.*not permitted"
    offer = "the same run without containers: make demo SOFTWARE=venv"
    assert re.fullmatch(
        rf"error: Apptainer cannot run on this machine \(({reason})\); {offer}", said
    )
    assert [path.name for path in tmp_path.iterdir()] == ["apptainer"]


@pytest.mark.skipif(shutil.which("apptainer") is None, reason="no apptainer on PATH")
def test_an_apptainer_that_runs_is_found_to(tmp_path: Path) -> None:
    abilities = probe.probe(shutil.which("apptainer") or "", tmp_path)
    assert abilities.image in ("sif", "sandbox")
    assert list(tmp_path.iterdir()) == []


def test_platform_file_that_is_damaged_is_named(tmp_path: Path) -> None:
    assert read_platform(tmp_path / "none.json")["image"] == "sif"
    (tmp_path / "platform.json").write_text("{")
    with pytest.raises(InputError, match="platform.json: invalid JSON"):
        read_platform(tmp_path / "platform.json")


def test_a_failing_program_shows_its_last_words(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match="counting: .* failed with status 3"):
        run_counted(["sh", "-c", "echo one; echo two >&2; exit 3"], "one", 1, "counting")
    assert "one\ntwo" in capfd.readouterr().err


def test_what_the_environment_binds_into_containers_is_kept_out_of_builds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub = tmp_path / "apptainer"
    stub.write_text("#!/bin/sh\nenv\n")
    stub.chmod(0o755)
    monkeypatch.setenv("APPTAINER_BIND", "/somewhere")
    monkeypatch.setenv("KEPT", "yes")
    told = apptainer.build(str(stub), "direct", [], capture_output=True).stdout.splitlines()
    assert "KEPT=yes" in told and not [line for line in told if line.startswith("APPTAINER_BIND")]
