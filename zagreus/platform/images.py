"""Build an image from its definition, and check what was built."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from zagreus.errors import InputError
from zagreus.lock import locked
from zagreus.platform import apptainer, probe

VARIABLE = re.compile(r"\{\{ (\w+) \}\}")
# zstd at its third level packs an image with torch in a quarter of gzip's time, and unpacks faster.
SQUASHFS = "-comp zstd -Xcompression-level 3"


def find_apptainer() -> str:
    """Return the command that runs images; raise `InputError` where there is none."""
    command = shutil.which("apptainer") or shutil.which("singularity")
    if command is None:
        raise InputError(
            "apptainer: not on PATH; `make setup` puts it into .tools, or set `software: venv` to "
            "do without images"
        )
    return command


@contextmanager
def singularity_on_path(folder: Path) -> Iterator[None]:
    """For spython, which knows Apptainer by its former name only.

    A link of that name in `folder`, which is searched first.
    """
    (folder / "singularity").symlink_to(find_apptainer())
    before = os.environ["PATH"]
    os.environ["PATH"] = f"{folder}:{before}"
    try:
        yield
    finally:
        os.environ["PATH"] = before


def build(
    definition: Path,
    output: Path,
    values: Mapping[str, str],
    bind: str | None,
    insecure: bool = False,
) -> None:
    """Build `output` (a SIF where its name ends in `.sif`, else a folder) from `definition`.

    Args:
        definition: Apptainer definition file.
        output: the image; it appears whole or not at all.
        values: the definition's `{{ variables }}`.
        bind: `SOURCE:TARGET` to be seen during the build.
        insecure: take the base from its registry without TLS.

    Raises:
        InputError: Apptainer is missing, cannot build here, or failed (its own messages go to
            stderr).
    """
    command = find_apptainer()
    abilities = probe.probe(command, output.parent)
    if abilities.build is None:
        raise InputError(
            f"{command}: cannot build images on this machine ({abilities.why}); copy them from "
            "one that can, or set `software: venv`"
        )
    # Another run may be building it; the lock ends with the process that holds it.
    with locked(output.with_name(f".{output.name}.lock")):
        _build(command, abilities.build, definition, output, values, bind, insecure)


def _build(
    command: str,
    mode: str,
    definition: Path,
    output: Path,
    values: Mapping[str, str],
    bind: str | None,
    insecure: bool,
) -> None:
    partial = output.with_name(f".{output.name}.partial")
    _remove(partial)
    scratch = output.with_name(f".{output.name}.build")
    _remove(scratch)
    scratch.mkdir(parents=True)
    # --force: an image's labels take the place of its base's.
    arguments = ["--force"]
    arguments += (
        ["--fix-perms"] if mode in ("single", "fakeroot") and output.suffix != ".sif" else []
    )
    arguments += (
        (["--mksquashfs-args", SQUASHFS] if packs(command) else [])
        if output.suffix == ".sif"
        else ["--sandbox"]
    )
    arguments += ["--bind", bind] if bind else []
    arguments += ["--no-https"] if insecure else []
    # Templates of definitions are newer than the oldest Apptainer and SingularityCE that are to
    # work.
    filled = scratch / definition.name
    filled.write_text(fill(definition.read_text(encoding="utf-8"), values), encoding="utf-8")
    environment = {**os.environ}
    for program in ("APPTAINER", "SINGULARITY"):
        environment |= {
            f"{program}_TMPDIR": str(scratch.absolute()),
            f"{program}_CACHEDIR": str(scratch.absolute() / "cache"),
        }
    started = time.monotonic()
    try:
        if apptainer.build(command, mode, [*arguments, partial, filled], environment).returncode:
            raise InputError(
                f"{definition}: building {output.name} failed; Apptainer's own messages stand above"
            )
        _remove(output)
        os.replace(partial, output)
    finally:
        _remove(partial)
        _remove(scratch)
    print(f"{output.name}: built in {time.monotonic() - started:.0f} s", file=sys.stderr)


def fill(text: str, values: Mapping[str, str]) -> str:
    """Return a definition with its `{{ variables }}` filled in.

    Raise `InputError` for one without a value.
    """
    missing = sorted(set(VARIABLE.findall(text)) - set(values))
    if missing:
        raise InputError(f"definition file: no value for {', '.join(missing)}")
    return VARIABLE.sub(lambda match: values[match[1]], text)


def packs(command: str) -> bool:
    """Tell whether this program lets its build choose the compression of a SIF."""
    said = subprocess.run(
        [command, "build", "--help"], capture_output=True, text=True, check=False
    ).stdout
    return "--mksquashfs-args" in said


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
