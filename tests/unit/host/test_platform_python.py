"""Which Python the set-up takes, and the line where none serves.

Locks for other Pythons than the one that runs.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from zagreus.errors import InputError
from zagreus.platform import wheels

FIND = Path("scripts/setup/find_python.sh").resolve()
COMMANDS = ("sh", "sed", "head", "dirname")
VERSIONS = ("3.11", "3.12", "3.13", "3.14")


def stand_in(folder: Path, name: str, version: str, lack: str = "-") -> None:
    """Write a program that answers the probe as a Python of this version would."""
    program = folder / name
    program.write_text(f"#!/bin/sh\necho '{version} {lack} {program}'\n")
    program.chmod(0o755)


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A folder for PATH with what the script itself needs and no Python."""
    for command in COMMANDS:
        (tmp_path / command).symlink_to(shutil.which(command) or command)
    shutil.copytree(FIND.parent, tmp_path / "repository/scripts/setup")
    return tmp_path


def find(machine: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    script = machine / "repository/scripts/setup/find_python.sh"
    environment = {"PATH": str(machine), **variables}
    return subprocess.run(
        [script, *arguments], env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("pythons", "arguments", "taken"),
    [
        ({"python3": "3.12"}, [], "python3"),
        ({"python3": "3.9 version", "python3.11": "3.11"}, [], "python3.11"),
        ({"python3.11": "3.11", "python3.13": "3.13"}, [], "python3.13"),
        ({"python3.11": "3.11", "python3.13": "3.13"}, ["venv"], "python3.11"),
        ({"python3.13": "3.13 ensurepip", "python3.12": "3.12"}, [], "python3.12"),
        ({"python3.14": "3.14 compiler", "python3.11": "3.11"}, [], "python3.11"),
        ({"python3.14": "3.14"}, [], "python3.14"),
    ],
)
def test_the_newest_that_serves_is_taken(
    machine: Path, pythons: dict[str, str], arguments: list[str], taken: str
) -> None:
    for name, answer in pythons.items():
        stand_in(machine, name, *answer.split())
    done = find(machine, *arguments)
    assert (done.returncode, done.stdout.strip()) == (0, str(machine / taken)), done.stderr


def test_a_shim_without_an_interpreter_is_not_taken_for_one(machine: Path) -> None:
    (machine / "python3.13").write_text(
        "#!/bin/sh\necho 'pyenv: python3.13: command not found' >&2\nexit 127\n"
    )
    (machine / "python3.13").chmod(0o755)
    stand_in(machine, "python3", "3.11")
    assert find(machine).stdout.strip() == str(machine / "python3")


def test_the_one_that_the_environment_was_made_with_stays(machine: Path) -> None:
    stand_in(machine, "python3.11", "3.11")
    stand_in(machine, "python3.13", "3.13")
    (machine / "repository/.tools/venv").mkdir(parents=True)
    (machine / "repository/.tools/venv/pyvenv.cfg").write_text(
        f"home = {machine}\nexecutable = {machine / 'python3.11'}\n"
    )
    assert find(machine).stdout.strip() == str(machine / "python3.11")
    assert find(machine, PYTHON="python3.13").stdout.strip() == str(machine / "python3.13")


@pytest.mark.parametrize(
    ("pythons", "python", "line"),
    [
        (
            {},
            "",
            r"no Python 3\.11 to 3\.14 here; get one \(apt install .*\); or name another one: "
            r".*PYTHON=.*",
        ),
        (
            {"python3": "3.9 version"},
            "",
            r"no Python 3\.11 to 3\.14 here \(.*python3 is Python 3\.9, expected .*\); get one .*",
        ),
        (
            {"python3": "3.12 ensurepip"},
            "",
            r".*python3 \(Python 3\.12\) has no module ensurepip: .*apt install "
            r"python3\.12-venv\).*",
        ),
        ({"python3": "3.12 venv"}, "", r".* has no module venv: .*"),
        (
            {"python3": "3.9 version", "python3.13": "3.13 ensurepip"},
            "",
            r".*Python 3\.13\) has no module ensurepip.*",
        ),
        (
            {"python3": "3.14 compiler"},
            "",
            r".*needs a C compiler and Python\.h .*apt install gcc python3\.14-dev.*",
        ),
        (
            {"python3": "3.11"},
            "nothere",
            r"PYTHON=nothere: it does not run, expected a Python from 3\.11 to 3\.14",
        ),
        (
            {"python3": "3.11", "old": "3.9 version"},
            "old",
            r"PYTHON=old: .*old is Python 3\.9, expected 3\.11 to 3\.14; or name .*",
        ),
        (
            {"python3": "3.11", "pypy": "3.11 pypy"},
            "pypy",
            r"PYTHON=pypy: .* is pypy, expected CPython.*",
        ),
    ],
)
def test_none_that_serves_is_one_line_with_the_remedy(
    machine: Path, pythons: dict[str, str], python: str, line: str
) -> None:
    for name, answer in pythons.items():
        stand_in(machine, name, *answer.split())
    done = find(machine, **({"PYTHON": python} if python else {}))
    assert done.returncode == 2 and done.stdout == ""
    assert re.fullmatch(f"error: {line}\n", done.stderr), done.stderr


def test_this_very_python_is_found_by_its_path() -> None:
    real = subprocess.run(
        [FIND],
        env={"PATH": "/usr/bin:/bin", "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(real.stdout.strip()).exists()


def test_data_has_other_packages_under_other_pythons() -> None:
    names = {
        python: {pin.name for pin in wheels.read_lock(Path("envs/data.lock"), python)}
        for python in VERSIONS
    }
    for python in VERSIONS:
        old = python in ("3.11", "3.12")
        assert ("fasttext-numpy2-wheel" in names[python]) == old
        assert ("fasttext-community" in names[python]) != old
        assert "colorama" not in names[python]  # for Windows


def test_wheels_for_another_python_are_asked_for_as_such() -> None:
    pins = [
        wheels.Pin("numpy", "2.3.5", frozenset("a")),
        wheels.Pin("langdetect", "1.0.9", frozenset("b")),
    ]
    assert wheels._groups(pins, wheels.running_python()) == [(pins, [])]
    other = next(python for python in VERSIONS if python != wheels.running_python())
    (built, options), (sources, how) = wheels._groups(pins, other)
    assert built == pins[:1] and sources == pins[1:]
    assert {
        f"--python-version={other}",
        "--only-binary=:all:",
        f"--abi=cp{other.replace('.', '')}",
    } < set(options)
    assert "--no-build-isolation" in how


def test_a_wheel_for_another_python_is_missing(tmp_path: Path) -> None:
    """Several Pythons share the folder."""
    (tmp_path / "blis-1.3.4-cp311-cp311-manylinux2014_x86_64.whl").write_bytes(b"one")
    (tmp_path / "numba-1.0-cp310-abi3-manylinux2014_x86_64.whl").write_bytes(b"one")
    (tmp_path / "idna-3.1-py3-none-any.whl").write_bytes(b"one")
    (tmp_path / "langdetect-1.0.9.tar.gz").write_bytes(b"one")
    value = frozenset({hashlib.sha256(b"one").hexdigest()})
    blis, *others = [
        wheels.Pin("blis", "1.3.4", value),
        wheels.Pin("numba", "1.0", value),
        wheels.Pin("idna", "3.1", value),
        wheels.Pin("langdetect", "1.0.9", value),
    ]
    assert wheels.missing_pins(tmp_path, [blis, *others], "3.11") == []
    assert wheels.missing_pins(tmp_path, [blis, *others], "3.12") == [blis]
    with pytest.raises(InputError, match=r"no file of blis 1\.3\.4"):
        wheels.describe_files(tmp_path, [blis], "3.12")
