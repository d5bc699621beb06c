"""Debian's packages that a test needs, installed on this machine where they are missing."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence


def install(packages: Sequence[str], programs: Sequence[str] = ()) -> str | None:
    """Install Debian's packages; return why they cannot be had here.

    Args:
        packages: their names.
        programs: what they bring, if it has other names; nothing is done where all are there.
    """
    if all(map(shutil.which, programs or packages)):
        return None
    names = " ".join(packages)
    if os.geteuid() or not shutil.which("apt-get"):
        return f"needs {names} (apt-get install), and only root of a Debian machine"
    # RUNLEVEL 1: the packages start no services.
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    for arguments in (["update"], ["install", "--yes", "--no-install-recommends", *packages]):
        command = ["apt-get", "-q", *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode:
            return f"{names} cannot be installed: {done.stderr.strip()[-200:]}"
    return None
