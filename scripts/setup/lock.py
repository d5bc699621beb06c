"""Make the locks of `envs/` anew from the wanted packages (`NAME.in`).

A lock has every package's exact version and the sha256 of all its files.

    .tools/dev/bin/python scripts/setup/lock.py                  all of them
    .tools/dev/bin/python scripts/setup/lock.py train.cpu dev    some

uv resolves them for CPython 3.11 to 3.14 at once: where these need different packages, the lock has
environment markers. Versions that a lock has already are kept where the wishes allow it; remove the
lock to have the newest. `constraints.BUILD.txt` says which torch a lock of this build has. CPU
locks are made with pip's own settings besides, which must offer the CPU build (`2.13.0+cpu`); the
others with the default index alone. Packages of `NAME.nodeps.in` are added as they are;
`NAME.overrides.in` takes the place of what packages ask for. No address and no path gets into a
lock.
"""

from __future__ import annotations

import argparse
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from zagreus.errors import InputError, run
from zagreus.platform.builds import BUILDS
from zagreus.platform.wheels import IMAGE_PYTHON, read_lock

ENVS = Path("envs")
NAMES = (
    "build",
    "host",
    "dev",
    "data",
    "export",
    *(f"{name}.{build}" for build in BUILDS for name in ("train", "posttrain", "evaluate")),
)
# IMAGE_PYTHON is the oldest Python that the locks are for.
OPTIONS = (
    "--quiet",
    "--universal",
    "--python-version",
    IMAGE_PYTHON,
    "--generate-hashes",
    "--no-annotate",
    "--no-header",
)


def main() -> None:
    """Read the command line, make the locks."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help=f"which: {', '.join(NAMES)}")
    for name in parser.parse_args().names or NAMES:
        if name not in NAMES:
            raise InputError(f"no lock is called '{name}', expected one of: {', '.join(NAMES)}")
        make_lock(name)
        print(f"envs/{name}.lock: {len(read_lock(ENVS / f'{name}.lock'))} packages")


def make_lock(name: str) -> None:
    """Resolve `envs/STEM.in` into `envs/NAME.lock`.

    NAME is STEM, or STEM and the build of torch.
    """
    stem, _, build = name.partition(".")
    output = ENVS / f"{name}.lock"
    command = [
        sys.executable,
        "-m",
        "uv",
        "pip",
        "compile",
        *OPTIONS,
        "--output-file",
        str(output),
        str(ENVS / f"{stem}.in"),
    ]
    if build:
        command += ["--constraint", str(ENVS / f"constraints.{build}.txt")]
    if build == "cpu":
        command += pip_index_options()
    overrides = ENVS / f"{stem}.overrides.in"
    if overrides.exists():
        command += ["--override", str(overrides)]
    if subprocess.run(command, check=False).returncode:
        raise InputError(
            f"envs/{stem}.in: uv found no set of versions; its own message stands above"
        )
    nodeps = ENVS / f"{stem}.nodeps.in"
    if nodeps.exists():
        output.write_text(
            output.read_text()
            + "".join(
                hashed(line) for line in nodeps.read_text().splitlines() if re.match(r"\w", line)
            )
        )


def pip_index_options() -> list[str]:
    """Return uv's arguments for the folders and indexes that pip is configured for, which uv does
    not read itself.
    """
    said = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    ).stdout
    arguments = []
    for line in said.splitlines():
        key, _, value = line.partition("=")
        option = {"find-links": "--find-links", "extra-index-url": "--extra-index-url"}.get(
            key.split(".")[-1]
        )
        if option and key.startswith(("global", "download", ":env:")):
            arguments += [
                part for location in shlex.split(value)[0].split() for part in (option, location)
            ]
    return [*arguments, "--index-strategy", "unsafe-best-match"]


def hashed(requirement: str) -> str:
    """Return the lock entry of one package's wheel, which is downloaded for that."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [
                sys.executable,
                "-m",
                "pip",
                "download",
                "--quiet",
                "--no-deps",
                "--dest",
                folder,
                requirement,
            ],
            check=True,
        )
        (wheel,) = Path(folder).iterdir()
        said = subprocess.run(
            [sys.executable, "-m", "pip", "hash", str(wheel)],
            capture_output=True,
            text=True,
            check=True,
        )
    return f"{requirement} \\\n    {said.stdout.split()[-1]}\n"


if __name__ == "__main__":
    run(main)
