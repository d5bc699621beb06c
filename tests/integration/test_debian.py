"""Other versions of Debian as hosts, as a normal user with an empty home: set-up and runs.

`make integration SLOW=debian` runs these; they fetch everything anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT
from debian_packages import install
from debian_root import DebianRoot, no_namespace

pytestmark = pytest.mark.slow
CLONE = f"cd && git clone -q {ROOT} checkout && cd checkout"
TEST = "--configfile config/test.yaml"


def made(folder: Path, suite: str, *packages: str) -> DebianRoot:
    """Return a Debian with git, make and Python, made in a folder."""
    if why := install(["mmdebstrap"]) or no_namespace():
        pytest.skip(why)
    root = DebianRoot(folder / suite, suite, ["git", "make", "python3-venv", *packages], [ROOT])
    root.make()
    return root


def ran(root: DebianRoot, command: str) -> str:
    """Run a command in the checkout; fail when it fails."""
    done = root.run(command)
    assert done.returncode == 0, f"{command}: {done.stdout[-3000:]} {done.stderr[-3000:]}"
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def trixie(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DebianRoot]:
    """Debian 13."""
    yield made(tmp_path_factory.mktemp("debian"), "trixie")


@pytest.fixture(scope="module")
def sid(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DebianRoot]:
    """Debian's unstable suite; one package of the lock has no wheel for its Python."""
    yield made(tmp_path_factory.mktemp("debian"), "sid", "gcc", "libc6-dev", "python3-dev")


def test_debian_13_from_clone_to_report(trixie: DebianRoot) -> None:
    """The smallest configuration has the bytes of the reference, whatever the host's Python."""
    said = ran(trixie, f"{CLONE} && make setup")
    assert "Python 3.13" in said and "base image: Debian's archive" in said
    said = ran(trixie, f"cd checkout && bin/zagreus all {TEST} --config portable=True")
    assert "FAILED" not in said
    said = ran(
        trixie,
        "cd checkout && bin/zagreus verify results/test && test -s results/test/report.html"
        " && bin/zagreus compare results/test --reference",
    )
    assert "all holds" in said and "80 of 80 artifacts equal the reference (portable" in said


def test_unstable_has_python_3_14_and_runs_the_text_stages(sid: DebianRoot) -> None:
    """The set-up finds Python 3.14; images are built and run under it."""
    said = ran(sid, f"{CLONE} && make setup && bin/zagreus -n all")
    assert "Python 3.14" in said
    ran(sid, f"cd checkout && bin/zagreus tokens {TEST} && ls results/test/tokens/*/*.ds")


def test_unstable_runs_the_text_stages_without_containers(sid: DebianRoot) -> None:
    """The jobs have Python 3.14 too."""
    clone = CLONE.replace("checkout", "bare")
    said = ran(sid, f"{clone} && make setup SOFTWARE=venv && bin/zagreus tokens {TEST}")
    assert "Python 3.14" in said
    said = ran(sid, "cd bare && resources/venvs/data-*/bin/python --version")
    assert "Python 3.14" in said


def test_debian_11_has_too_old_a_python(tmp_path: Path) -> None:
    """One line that names the ways to get one; `make doctor` runs in Python 3.9."""
    bullseye = made(tmp_path, "bullseye")
    ran(bullseye, CLONE)
    for command in ("make setup", "make demo", "make doctor"):
        done = bullseye.run(f"cd checkout && {command}")
        said = f"{done.stdout}{done.stderr}"
        assert done.returncode == 2 and "is Python 3.9, expected 3.11 to 3.14" in said, said
        assert "Traceback" not in said
