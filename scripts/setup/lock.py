"""Make the locks of `envs/` anew from what is wanted there (`NAME.in`): every package's exact version and the sha256 of all its files.

    .tools/dev/bin/python scripts/setup/lock.py                  all of them
    .tools/dev/bin/python scripts/setup/lock.py train.cpu dev    some

Versions that a lock has already are kept where the wishes allow it; remove the lock to have the newest. CPU locks are made with pip's own
settings, which must offer the CPU build of torch (`2.13.0+cpu`); CUDA locks with the default index alone, whose build of torch is the
CUDA one. Packages of `NAME.nodeps.in` are added as they are. No address and no path gets into a lock.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from zagreus.errors import InputError, run
from zagreus.platform.wheels import read_lock

ENVS = Path("envs")
NAMES = (
    *("build", "host", "dev", "data"),
    *(f"{name}.{flavour}" for flavour in ("cpu", "cuda") for name in ("train", "posttrain", "evaluate")),
)
OPTIONS = ("--quiet", "--generate-hashes", "--allow-unsafe", "--strip-extras", "--no-annotate", "--no-header")
SILENT = ("--no-emit-index-url", "--no-emit-find-links", "--no-emit-trusted-host", "--no-emit-options")


def main() -> None:
    """Read the command line, make the locks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"which: {', '.join(NAMES)}")
    for name in parser.parse_args().names or NAMES:
        if name not in NAMES:
            raise InputError(f"no lock is called '{name}', expected one of: {', '.join(NAMES)}")
        make_lock(name)
        print(f"envs/{name}.lock: {len(read_lock(ENVS / f'{name}.lock'))} packages")


def make_lock(name: str) -> None:
    """Resolve `envs/STEM.in` into `envs/NAME.lock`; NAME is STEM, or STEM and the build of torch."""
    stem = name.split(".")[0]
    environment = dict(os.environ)
    if name.endswith(".cuda"):
        environment |= {"PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": "", "PIP_EXTRA_INDEX_URL": ""}
    output = ENVS / f"{name}.lock"
    command = [sys.executable, "-m", "piptools", "compile", *OPTIONS, *SILENT, "--output-file", str(output), str(ENVS / f"{stem}.in")]
    if subprocess.run(command, check=False, env=environment).returncode:
        raise InputError(f"envs/{stem}.in: pip-compile found no set of versions; its own message stands above")
    if name.endswith(".cpu") and "+cpu" not in next(pin.version for pin in read_lock(output) if pin.name == "torch"):
        raise InputError(f"{output}: pip's settings offer no CPU build of torch; add an index or a folder that has it")
    nodeps = ENVS / f"{stem}.nodeps.in"
    if nodeps.exists():
        output.write_text(output.read_text() + "".join(hashed(line) for line in nodeps.read_text().splitlines() if re.match(r"\w", line)))


def hashed(requirement: str) -> str:
    """Return the lock entry of one package's wheel, which is downloaded for that."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, requirement], check=True)
        (wheel,) = Path(folder).iterdir()
        said = subprocess.run([sys.executable, "-m", "pip", "hash", str(wheel)], capture_output=True, text=True, check=True)
    return f"{requirement} \\\n    {said.stdout.split()[-1]}\n"


if __name__ == "__main__":
    run(main)
