"""The wheelhouse.

Every file that the lock files name, fetched with the host's own pip settings and checked against
the locks.

An image is built from it without a network, and so it can be on a machine that has none, from a
copy of the folder. The files are those of the Python that will install them, which need not be the
host's.
"""

from __future__ import annotations

import hashlib
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from zagreus.errors import InputError
from zagreus.platform.progress import run_counted

# Python of the images: Debian 12's, containers/base.packages.
IMAGE_PYTHON = "3.11"
# C library of the images: wheels built for this version (minor part of 2.x) or an older one run in
# them.
IMAGE_GLIBC = 36
# Packages that come as sources: there is no wheel of them.
SOURCES = (
    "axolotl-contribs-lgpl",
    "axolotl-contribs-mit",
    "langdetect",
    "rouge-score",
    "sqlitedict",
    "word2number",
)

# pip says one of these for each package of a lock.
FILE_LINE = r"(Collecting|Processing|File was already downloaded) "
# uv says this for each package that it has installed.
UV_LINE = r" \+ "


@dataclass(frozen=True)
class Pin:
    """One package of a lock.

    Its exact version, and the sha256 of every file that may stand for it.
    """

    name: str
    version: str
    hashes: frozenset[str]
    marker: str = ""  # where the package is needed (PEP 508); empty: everywhere


def running_python() -> str:
    """Return the version of the Python that runs this, as `3.11`."""
    return f"{sys.version_info[0]}.{sys.version_info[1]}"


def read_lock(path: Path, python: str | None = None) -> list[Pin]:
    """Read a lock in pip's format (`NAME==VERSION [; MARKER] --hash=sha256:... ...`).

    Args:
        path: the lock.
        python: keep only what this Python (`3.11`) needs on this machine; None keeps all.

    Raises:
        InputError: no such file, or an entry that is not pinned and hashed.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such lock file")
    pins = []
    text = path.read_text(encoding="utf-8").replace("\\\n", " ")
    for number, line in enumerate(text.splitlines(), 1):
        line = line.split(" #")[0].strip()
        if not line or line.startswith("#"):
            continue
        match = re.match(r"([A-Za-z0-9._-]+)==([^\s;]+)\s*(?:;(.*?))?\s--hash", line)
        hashes = frozenset(re.findall(r"--hash=sha256:([0-9a-f]{64})", line))
        if not match or not hashes:
            raise InputError(
                f"{path}: entry {number} is '{line[:60]}', expected 'NAME==VERSION "
                "--hash=sha256:...'"
            )
        pins.append(
            Pin(
                re.sub(r"[-_.]+", "-", match[1]).lower(), match[2], hashes, (match[3] or "").strip()
            )
        )
    if not pins:
        raise InputError(f"{path}: an empty lock file")
    return pins if python is None else [pin for pin in pins if _needed(pin.marker, python)]


def _needed(marker: str, python: str) -> bool:
    """Tell whether a marker holds for a Python on this machine."""
    if not marker:
        return True
    # The `packaging` that pip itself carries: pip is wherever wheels are fetched.
    from pip._vendor.packaging.markers import Marker

    return Marker(marker).evaluate({"python_version": python, "python_full_version": f"{python}.0"})


def _find_files(folder: Path, pin: Pin, python: str) -> list[Path]:
    """Return the files in `folder` of the pin's name and version that a Python installs.

    Wheels, or an archive of sources. Several Pythons may share the folder.
    """
    files = []
    for path in sorted(folder.iterdir()):
        parts = re.match(r"(.+?)-(\d[^-]*?)(?:-.*\.whl|\.tar\.gz|\.zip)$", path.name)
        if (
            parts
            and re.sub(r"[-_.]+", "-", parts[1]).lower() == pin.name
            and parts[2] == pin.version
            and (path.suffix != ".whl" or _installs(python, path.name))
        ):
            files.append(path)
    return files


def _installs(python: str, wheel: str) -> bool:
    """Tell whether a Python (`3.11`) installs a wheel, by the wheel's interpreter and ABI tags.

    The platform is left to pip, which fetched the wheel.
    """
    from pip._vendor.packaging import tags
    from pip._vendor.packaging.utils import InvalidWheelFilename, parse_wheel_filename

    version = tuple(map(int, python.split(".")))
    interpreter = f"cp{python.replace('.', '')}"
    known = {
        (tag.interpreter, tag.abi)
        for tag in (
            *tags.cpython_tags(version, abis=[interpreter], platforms=["any"]),
            *tags.compatible_tags(version, interpreter, platforms=["any"]),
        )
    }
    try:
        *_, own = parse_wheel_filename(wheel)
    except InvalidWheelFilename:
        return False
    return any((tag.interpreter, tag.abi) in known for tag in own)


def missing_pins(folder: Path, pins: Sequence[Pin], python: str) -> list[Pin]:
    """Return the pins that no file in `folder` satisfies: missing, damaged, or not for `python`."""
    return [
        pin
        for pin in pins
        if not any(_sha256(path) in pin.hashes for path in _find_files(folder, pin, python))
    ]


def describe_files(folder: Path, pins: Sequence[Pin], python: str) -> list[dict[str, object]]:
    """Return `{file, bytes, sha256}` of the file in `folder` of each pin that `python` installs.

    Raise `InputError` for one that is missing or whose bytes differ.
    """
    files = []
    for pin in pins:
        described = [(path, _sha256(path)) for path in _find_files(folder, pin, python)]
        if not described:
            raise InputError(
                f"{folder}: no file of {pin.name} {pin.version}, which the lock asks for"
            )
        good = [(path, digest) for path, digest in described if digest in pin.hashes]
        if not good:
            path, digest = described[0]
            raise InputError(
                f"{path}: sha256 is {digest}, expected one of the {len(pin.hashes)} that the lock "
                "allows"
            )
        path, digest = good[0]
        files.append({"file": path.name, "bytes": path.stat().st_size, "sha256": digest})
    return files


def _sha256(path: Path) -> str:
    with open(path, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def download(lock: Path, folder: Path, arguments: Sequence[str] = (), python: str = "") -> None:
    """Fetch what `lock` names into `folder` with the host's pip.

    Files that are there already are checked and not fetched again.

    Args:
        lock: the lock.
        folder: the wheelhouse.
        arguments: for pip: where else to look.
        python: the Python (`3.11`) that will install the files; this one where it is left out.

    Raises:
        InputError: pip failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pins = read_lock(lock, python or running_python())
    with tempfile.TemporaryDirectory() as work:
        for number, (group, options) in enumerate(_groups(pins, python or running_python())):
            # pip would judge the markers by the Python that it runs in.
            part = Path(work) / f"{number}.lock"
            part.write_text(
                "".join(f"{pin.name}=={pin.version} {_hash_options(pin)}\n" for pin in group),
                encoding="utf-8",
            )
            command = [
                sys.executable,
                "-m",
                "pip",
                "download",
                "--require-hashes",
                "--no-deps",
                "--no-cache-dir",
            ]
            command += [
                "--disable-pip-version-check",
                "--progress-bar",
                "off",
                *options,
                *arguments,
            ]
            command += ["--dest", str(folder), "--requirement", str(part)]
            run_counted(command, FILE_LINE, len(group), f"wheels of {lock.stem}")


def _hash_options(pin: Pin) -> str:
    return " ".join(f"--hash=sha256:{value}" for value in sorted(pin.hashes))


def _groups(pins: Sequence[Pin], python: str) -> list[tuple[list[Pin], list[str]]]:
    """Return the pins in groups, each with pip's options.

    One where this Python will install them, else wheels apart from sources.
    """
    if python == running_python():
        return [(list(pins), [])]
    machine = platform.machine()
    options = [
        "--only-binary=:all:",
        "--implementation=cp",
        f"--python-version={python}",
        f"--abi=cp{python.replace('.', '')}",
    ]
    named = [f"manylinux_2_{minor}" for minor in range(IMAGE_GLIBC, 4, -1)] + [
        "manylinux2014",
        "manylinux2010",
        "manylinux1",
        "linux",
    ]
    options += [f"--platform={name}_{machine}" for name in named]
    sources = [pin for pin in pins if pin.name in SOURCES]
    built = [pin for pin in pins if pin.name not in SOURCES]
    # Sources are built where they are installed; pip only looks into them here.
    return [
        group
        for group in ((built, options), (sources, ["--no-build-isolation", "--no-binary=:all:"]))
        if group[0]
    ]


def make_environment(folder: Path, locks: Sequence[Path], wheels: Path | None) -> None:
    """Make a virtual environment at `folder` from `locks`, one after the other.

    From the wheelhouse `wheels` alone (by uv), or with pip and its settings.

    The first lock is what installs the others: packages that come as sources are built with its
    versions, not with an index's newest. The scripts hold the folder's path, so it is made in
    place, and `folder`/complete is written last: without that file it is made anew.
    """
    if folder.exists():
        shutil.rmtree(folder)
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    for number, lock in enumerate(locks):
        if wheels and number:
            command, pattern = _uv_command(folder, wheels), UV_LINE
        else:
            command, pattern = _pip_command(folder, wheels), FILE_LINE
        run_counted(
            [*command, "--requirement", str(lock)],
            pattern,
            len(read_lock(lock)),
            f"packages of {lock.stem}",
        )
    (folder / "complete").write_text(_identity(folder, locks))


def _pip_command(folder: Path, wheels: Path | None) -> list[str]:
    """Return the command that installs into `folder` with pip.

    From the wheelhouse alone, or from where pip's settings say.
    """
    source = ["--no-index", "--find-links", str(wheels)] if wheels else []
    return [
        str(folder / "bin" / "python"),
        "-m",
        "pip",
        "install",
        "--require-hashes",
        "--no-deps",
        "--no-cache-dir",
        "--no-build-isolation",
        "--disable-pip-version-check",
        "--progress-bar",
        "off",
        *source,
    ]


def _uv_command(folder: Path, wheels: Path) -> list[str]:
    """Return the command that installs into `folder` from the wheelhouse alone.

    uv takes half of pip's CPU time for that. It does not read pip's settings, so it fetches
    nothing.
    """
    return [
        str(folder / "bin" / "uv"),
        "pip",
        "install",
        "--python",
        str(folder / "bin" / "python"),
        "--no-config",
        "--offline",
        "--no-cache",
        "--no-index",
        "--find-links",
        str(wheels),
        "--require-hashes",
        "--no-deps",
        "--no-build-isolation",
        "--link-mode",
        "copy",
        "--compile-bytecode",
    ]


def is_complete(folder: Path, locks: Sequence[Path]) -> bool:
    """Tell whether `make_environment` finished for these locks and this Python, here."""
    complete = folder / "complete"
    # An interpreter that was removed leaves a link to nothing behind.
    return (
        complete.is_file()
        and (folder / "bin" / "python").exists()
        and complete.read_text() == _identity(folder, locks)
    )


def _identity(folder: Path, locks: Sequence[Path]) -> str:
    return "".join(
        [
            f"{folder}\nPython {running_python()}\n",
            *(f"{_sha256(lock)}  {lock.name}\n" for lock in locks),
        ]
    )
