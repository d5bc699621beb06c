"""What Apptainer can do on this machine, found by doing it with an image of two megabytes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from zagreus.platform import apptainer as apptainer_module

# In the order of preference. --no-privs: as root where the bounding set lacks a capability that
# Apptainer asks for.
EXEC_ARGUMENTS: tuple[tuple[str, ...], ...] = ((), ("--no-privs",), ("--userns",))


@dataclass(frozen=True)
class Abilities:
    """How Apptainer has to be called here.

    `image` is None where it cannot run at all, `why` says then what it answered.
    """

    image: str | None  # `sif`, or `sandbox` where a SIF cannot be mounted
    exec_arguments: tuple[str, ...]
    build: str | None  # a mode of apptainer.BUILD_FLAGS
    why: str


def probe(apptainer: str, work: Path) -> Abilities:
    """Build a tiny image from the machine's own shell and try to run it.

    As a SIF and as a folder, with each set of arguments.
    """
    work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=work) as name:
        folder = Path(name)
        tree = folder / "tree"
        _make_tree(tree)
        sif = folder / "probe.sif"
        said = ""
        modes = ("direct", "namespace") if os.geteuid() == 0 else ("single", "fakeroot")
        built = next((mode for mode in modes if _builds(apptainer, mode, tree, folder)), None)
        subprocess.run([apptainer, "build", "--force", sif, tree], check=False, capture_output=True)
        for image, path in (("sif", sif), ("sandbox", tree)):
            for arguments in EXEC_ARGUMENTS:
                done = subprocess.run(
                    [apptainer, "exec", *arguments, path, "/bin/sh", "-c", "echo runs"],
                    check=False,
                    capture_output=True,
                    text=True,
                )
                # A SIF that cannot be mounted is unpacked at every start: minutes for gigabytes, so
                # that counts as not running.
                if (
                    done.returncode == 0
                    and done.stdout.strip() == "runs"
                    and "onverting SIF" not in done.stderr
                ):
                    return Abilities(image, arguments, built, "")
                said = _reason(done.stderr) or f"status {done.returncode}"
    return Abilities(None, (), built, said)


def _reason(errors: str) -> str:
    """Return what Apptainer died of: its line marked FATAL or ERROR, else the last one.

    The empty text where it wrote nothing.
    """
    plain = re.sub(
        r"\x1b\[[0-9;]*m", "", errors
    )  # Apptainer's starter writes colours to files too, whatever it is told
    lines = [line.strip() for line in plain.splitlines() if line.strip()]
    worst = [line for line in lines if line.startswith(("FATAL", "ERROR"))]
    return re.sub(r"^[A-Z]+ *: +", "", (worst or lines or [""])[-1])


def _make_tree(tree: Path) -> None:
    """Make a root file system with the machine's shell and the libraries that it needs."""
    for name in ("usr/bin", "etc", "dev", "proc", "sys", "tmp", "root", "home", "var/tmp"):
        (tree / name).mkdir(parents=True)
    (tree / "bin").symlink_to("usr/bin")
    shutil.copy(Path("/bin/sh").resolve(), tree / "usr/bin/sh")
    needed = subprocess.run(["ldd", "/bin/sh"], capture_output=True, text=True, check=True).stdout
    for library in re.findall(r"(/\S+)", needed):
        target = tree / library.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(Path(library).resolve(), target)


def _builds(apptainer: str, mode: str, tree: Path, folder: Path) -> bool:
    """Tell whether an image with a `%post` section can be built in this mode."""
    definition = folder / f"{mode}.def"
    definition.write_text(
        f"Bootstrap: localimage\nFrom: {tree}\n\n%post\n    echo built > /built\n"
    )
    output = folder / f"{mode}-sandbox"
    try:
        done = apptainer_module.build(
            apptainer, mode, ["--sandbox", output, definition], capture_output=True
        )
    except subprocess.SubprocessError:
        return False
    return done.returncode == 0 and (output / "built").exists()
