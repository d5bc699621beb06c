"""The wheelhouse: every file that the lock files name, fetched with the host's own pip settings and checked against the locks.

An image is built from it without a network, and so it can be on a machine that has none, from a copy of the folder.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from zagreus.errors import InputError
from zagreus.platform.progress import run_counted

# pip says one of these for each package of a lock.
FILE_LINE = r"(Collecting|Processing|File was already downloaded) "


@dataclass(frozen=True)
class Pin:
    """One package of a lock: its exact version, and the sha256 of every file that may stand for it."""

    name: str
    version: str
    hashes: frozenset[str]


def read_lock(path: Path) -> list[Pin]:
    """Read a lock in pip's format (`NAME==VERSION --hash=sha256:... ...`); raise `InputError` for anything that is not pinned and hashed."""
    if not path.is_file():
        raise InputError(f"{path}: no such lock file")
    pins = []
    text = path.read_text(encoding="utf-8").replace("\\\n", " ")
    for number, line in enumerate(text.splitlines(), 1):
        line = line.split(" #")[0].strip()
        if not line or line.startswith("#"):
            continue
        found = re.match(r"([A-Za-z0-9._-]+)==([^\s;]+)(?:\s*;[^-]*)?\s", line + " ")
        hashes = frozenset(re.findall(r"--hash=sha256:([0-9a-f]{64})", line))
        if not found or not hashes:
            raise InputError(f"{path}: entry {number} is '{line[:60]}', expected 'NAME==VERSION --hash=sha256:...'")
        pins.append(Pin(re.sub(r"[-_.]+", "-", found[1]).lower(), found[2], hashes))
    if not pins:
        raise InputError(f"{path}: an empty lock file")
    return pins


def _find_files(folder: Path, pin: Pin) -> list[Path]:
    """Return the files in `folder` that bear the pin's name and version: wheels, or an archive of sources."""
    found = []
    for path in sorted(folder.iterdir()):
        parts = re.match(r"(.+?)-(\d[^-]*?)(?:-.*\.whl|\.tar\.gz|\.zip)$", path.name)
        if parts and re.sub(r"[-_.]+", "-", parts[1]).lower() == pin.name and parts[2] == pin.version:
            found.append(path)
    return found


def missing_pins(folder: Path, pins: Sequence[Pin]) -> list[Pin]:
    """Return the pins that no file in `folder` satisfies, be it missing or damaged."""
    return [pin for pin in pins if not any(_sha256(path) in pin.hashes for path in _find_files(folder, pin))]


def describe_files(folder: Path, pins: Sequence[Pin]) -> list[dict[str, object]]:
    """Return `{file, bytes, sha256}` of the file in `folder` of each pin; raise `InputError` for one that is missing or whose bytes differ."""
    files = []
    for pin in pins:
        described = [(path, _sha256(path)) for path in _find_files(folder, pin)]
        if not described:
            raise InputError(f"{folder}: no file of {pin.name} {pin.version}, which the lock asks for")
        good = [(path, digest) for path, digest in described if digest in pin.hashes]
        if not good:
            path, digest = described[0]
            raise InputError(f"{path}: sha256 is {digest}, expected one of the {len(pin.hashes)} that the lock allows")
        path, digest = good[0]
        files.append({"file": path.name, "bytes": path.stat().st_size, "sha256": digest})
    return files


def _sha256(path: Path) -> str:
    with open(path, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def download(lock: Path, folder: Path, arguments: Sequence[str] = ()) -> None:
    """Fetch what `lock` names into `folder` with the host's pip; files that are there already are checked and not fetched again.

    `arguments` go to pip: where else to look. Raises `InputError` when pip fails.
    """
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "pip", "download", "--require-hashes", "--no-deps", "--no-cache-dir", "--disable-pip-version-check"]
    command += ["--progress-bar", "off", *arguments, "--dest", str(folder), "--requirement", str(lock)]
    run_counted(command, FILE_LINE, len(read_lock(lock)), f"wheels of {lock.stem}")


def make_environment(folder: Path, locks: Sequence[Path], wheels: Path | None) -> None:
    """Make a virtual environment at `folder` from `locks`, one after the other: from the wheelhouse `wheels` alone, or with pip's own settings.

    The first lock is what installs the others: packages that come as sources are built with its versions, not with an index's newest.
    The scripts hold the folder's path, so it is made in place, and `folder`/complete is written last: without that file it is made anew.
    """
    if folder.exists():
        shutil.rmtree(folder)
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = folder / "bin" / "python"
    source = ["--no-index", "--find-links", str(wheels)] if wheels else []
    for lock in locks:
        command = [str(python), "-m", "pip", "install", "--require-hashes", "--no-deps", "--no-cache-dir", "--no-build-isolation"]
        command += ["--disable-pip-version-check", "--progress-bar", "off", *source, "--requirement", str(lock)]
        run_counted(command, FILE_LINE, len(read_lock(lock)), f"packages of {lock.stem}")
    (folder / "complete").write_text(_identity(folder, locks))


def is_complete(folder: Path, locks: Sequence[Path]) -> bool:
    """Tell whether `make_environment` finished for these locks, at this very place."""
    complete = folder / "complete"
    return complete.is_file() and complete.read_text() == _identity(folder, locks)


def _identity(folder: Path, locks: Sequence[Path]) -> str:
    return "".join([f"{folder}\n", *(f"{_sha256(lock)}  {lock.name}\n" for lock in locks)])
