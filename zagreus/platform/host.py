"""This machine's folders and variables, put right before anything starts on it."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import MutableMapping
from pathlib import Path

from zagreus.errors import InputError

# Folders in which Apptainer works. One that cannot be written ends its builds with a page of its
# own.
APPTAINER_FOLDERS = tuple(
    f"{program}_{what}"
    for program in ("APPTAINER", "SINGULARITY")
    for what in ("CACHEDIR", "TMPDIR")
)


def prepare_host(root: Path, environment: MutableMapping[str, str] = os.environ) -> None:
    """Check the folders that the environment names for Apptainer.

    Keep caches in the repository where the home folder cannot be written.

    Raises:
        InputError: a folder for Apptainer or for temporary files cannot be written.
    """
    for name in (*APPTAINER_FOLDERS, "TMPDIR"):
        if (folder := environment.get(name)) and (
            why := _why_not(Path(folder), name.endswith("CACHEDIR"))
        ):
            raise InputError(
                f"{name}: {folder} cannot be written ({why}); unset {name}, or name a folder that "
                "can"
            )
    caches = Path(
        environment.get("XDG_CACHE_HOME")
        or Path(environment.get("HOME", "/nonexistent")) / ".cache"
    )
    if why := _why_not(caches):
        instead = root / ".snakemake" / "cache"
        print(f"note: {caches} cannot be written ({why}); caches go to {instead}", file=sys.stderr)
        environment["XDG_CACHE_HOME"] = str(instead)


def _why_not(folder: Path, parents: bool = False) -> str:
    """Return why nothing can be written to a folder, the empty text where it can.

    It is made where it is missing, with its `parents`.
    """
    try:
        folder.mkdir(parents=parents, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return ""
    except OSError as error:
        return error.strerror or str(error)
