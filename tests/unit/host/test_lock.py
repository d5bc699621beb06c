"""The kernel's locks, and file systems that have none."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from zagreus.errors import InputError
from zagreus.lock import locked, require_locks, try_lock

ROOT = Path(__file__).parents[3]
# A file system without locks cannot be mounted in a test: the system call answers as Lustre does.
WITHOUT_LOCKS = """
import errno, fcntl, os, runpy, sys
def refuse(*_):
    raise OSError({code}, os.strerror({code}))
fcntl.flock = refuse
sys.argv = {argv}
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_a_second_lock_is_refused_until_the_first_ends(tmp_path: Path) -> None:
    first = try_lock(tmp_path / ".lock")
    assert first is not None and try_lock(tmp_path / ".lock") is None
    os.close(first)
    with locked(tmp_path / ".lock"):
        assert try_lock(tmp_path / ".lock") is None
    assert try_lock(tmp_path / ".lock") is not None


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_named_in_one_line(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuse)
    for take in (lambda: try_lock(tmp_path / ".lock"), lambda: require_locks(tmp_path)):
        with pytest.raises(InputError) as raised:
            take()
        assert str(raised.value).startswith(f"{tmp_path}: its file system has no file locks")
        assert "`flock`" in str(raised.value) and "\n" not in str(raised.value)
    assert not list(tmp_path.glob(".lock-probe*"))


def test_another_error_stays_what_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "flock", fail)
    with pytest.raises(OSError, match="Input/output"):
        try_lock(tmp_path / ".lock")


@pytest.mark.skipif(not (ROOT / ".tools/venv").exists(), reason="bin/zagreus is not set up here")
def test_the_command_says_it_too(tmp_path: Path) -> None:
    """bin/zagreus, which locks the folder before anything else."""
    argv = [str(ROOT / "bin/zagreus"), "all"]
    program = WITHOUT_LOCKS.format(code=errno.ENOSYS, argv=argv)
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 2 and "no file locks" in done.stderr, done.stderr
    assert "Traceback" not in done.stderr


def test_nobody_locks_by_another_way() -> None:
    """So that every place gives the same line."""
    files = [
        *(ROOT / "zagreus").rglob("*.py"),
        *(ROOT / "scripts").rglob("*.py"),
        *(ROOT / "rules").glob("*.smk"),
    ]
    files += [path for path in (ROOT / "bin").iterdir() if path.is_file()]
    assert [
        str(path) for path in files if "fcntl" in path.read_text() and path.name != "lock.py"
    ] == []
