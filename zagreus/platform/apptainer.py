"""Apptainer in a private folder, from Debian's packages, without root.

And how it has to be called on this machine.

Debian's unstable suite has Apptainer and the newest C library. Its files work on an older Debian
when every ELF file uses the C library that came with them: the interpreter and the run path are
rewritten to the folder. Apptainer looks for its configuration relative to its own binary.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from zagreus.atomic import atomic_folder
from zagreus.errors import InputError
from zagreus.platform import debian
from zagreus.platform.disk import require_disk

PACKAGES = ("apptainer", "squashfs-tools", "squashfuse", "fuse-overlayfs")
# Nothing of these is used: network plugins (containers here have the host's network),
# documentation.
UNUSED = ("usr/lib/cni", "usr/share/doc", "usr/share/man", "usr/share/locale", "usr/libexec/gcc")
# What makes every container see more of the host.
BINDS = ("APPTAINER_BIND", "APPTAINER_BINDPATH", "SINGULARITY_BIND", "SINGULARITY_BINDPATH")
# These work only with rights that an unpacked file does not have (set-uid): the machine's own must
# be found instead.
SETUID = ("newuidmap", "newgidmap", "mount", "umount", "fusermount", "fusermount3")


def install(prefix: Path, work: Path) -> None:
    """Make `prefix` hold Apptainer, and `prefix`/bin/apptainer start it.

    `work` keeps the downloads until it is done.

    Raises `InputError` when the archive, the disk or a tool is missing.
    """
    require_disk(prefix, 600, "Apptainer (43 MB to fetch, 180 MB unpacked)")
    archive = debian.find_archive(debian.read_entries())
    apt = debian.PrivateApt(work, [debian.source_line(archive, "unstable")])
    print("Apptainer: fetching it from Debian's archive (about 55 MB) ...", file=sys.stderr)
    packages = apt.download(PACKAGES)
    print(f"Apptainer: unpacking {len(packages)} packages ...", file=sys.stderr)
    with atomic_folder(prefix, settled=True) as partial:
        debian.unpack(packages, partial)
        for name in UNUSED:
            shutil.rmtree(partial / name, ignore_errors=True)
        for name in SETUID:
            (partial / "usr/bin" / name).unlink(missing_ok=True)
        _use_own_libraries(partial, prefix)
        for base in ("usr", "usr/lib"):
            shutil.copytree(partial / "etc/apptainer", partial / base / "etc/apptainer")
            (partial / base / "var/lib/apptainer/mnt/session").mkdir(parents=True)
        _write_starter(partial / "bin-private", prefix)
    shutil.rmtree(work)


def _write_starter(folder: Path, prefix: Path) -> None:
    """Write the command: Apptainer finds its helpers (mksquashfs, squashfuse) on PATH."""
    folder.mkdir()
    starter = folder / "apptainer"
    starter.write_text(
        f'#!/bin/sh\nPATH="$PATH:/usr/sbin:/sbin:{prefix}/usr/bin" exec '
        f'"{prefix}/usr/bin/apptainer" "$@"\n'
    )
    starter.chmod(0o755)


def _use_own_libraries(tree: Path, prefix: Path) -> None:
    """Rewrite interpreter and run path of every ELF file in `tree` to where they will be, in
    `prefix`.
    """
    libraries = tree / "usr/lib" / _triplet(tree)
    final = prefix / libraries.relative_to(tree)
    loader = next(libraries.glob("ld-linux-*.so.*"))
    for path in sorted(tree.rglob("*")):
        if path.is_symlink() or not path.is_file() or path.name == loader.name:
            continue
        with open(path, "rb") as opened:
            if opened.read(4) != b"\x7fELF":
                continue
        path.chmod(path.stat().st_mode | 0o200)
        if (
            subprocess.run(
                ["patchelf", "--print-interpreter", path], check=False, capture_output=True
            ).returncode
            == 0
        ):
            subprocess.run(
                ["patchelf", "--set-interpreter", final / loader.name, path],
                check=True,
                capture_output=True,
            )
        # A static program has no run path; patchelf refuses it, and it needs none. Without *force*
        # the libraries would find the host's.
        subprocess.run(
            ["patchelf", "--force-rpath", "--set-rpath", final, path],
            check=False,
            capture_output=True,
        )


def _triplet(tree: Path) -> str:
    triplets = sorted(path.parent.name for path in (tree / "usr/lib").glob("*/libc.so.6"))
    if not triplets:
        raise InputError(f"{tree}/usr/lib: no C library among the unpacked packages")
    return triplets[0]


def run_in_own_namespace() -> None:
    """For `subprocess`' `preexec_fn`, as root.

    Enter a new user namespace in which every id is itself and all capabilities are there.

    A machine may have taken capabilities out of root's bounding set; Apptainer wants all of them to
    build an image. The maps (user_namespaces(7)) must be written by a process outside: a helper
    forked before.
    """
    import ctypes

    entered, tell = os.pipe()
    parent = os.getpid()
    helper = os.fork()
    if helper == 0:
        os.close(tell)
        os.read(entered, 1)
        status = 0
        try:
            for kind in ("uid_map", "gid_map"):
                Path(f"/proc/{parent}/{kind}").write_text("0 0 65536\n")
        except OSError:
            status = 1
        os._exit(status)
    os.close(entered)
    new_user_namespace = 0x10000000  # CLONE_NEWUSER, sched.h
    if ctypes.CDLL(None, use_errno=True).unshare(new_user_namespace):
        raise OSError(ctypes.get_errno(), "unshare")
    os.write(tell, b"x")
    os.close(tell)
    if os.waitpid(helper, 0)[1]:
        raise OSError("the maps of the new user namespace could not be written")


# How an image can be built. A normal user is root of a namespace that holds one id: definitions
# must do with that.
BUILD_FLAGS = {
    "direct": (),  # root with all capabilities
    "namespace": (),  # root, in a user namespace of its own
    "single": ("--fakeroot", "--ignore-subuid", "--ignore-fakeroot-command"),
    "fakeroot": ("--fakeroot",),  # SingularityCE, which knows only sub-ids
}


def build(
    apptainer: str,
    mode: str,
    arguments: Sequence[str | Path],
    environment: Mapping[str, str] = os.environ,
    **popen: object,
) -> subprocess.CompletedProcess[str]:
    """Run `apptainer build` in one of the modes of `BUILD_FLAGS`."""
    command = [apptainer, "build", *BUILD_FLAGS[mode], *map(str, arguments)]
    preexec = run_in_own_namespace if mode == "namespace" else None
    # Folders that the environment binds into every container have no place in an image that is
    # being built, and stop the build.
    env = {name: value for name, value in environment.items() if name not in BINDS}
    return subprocess.run(command, check=False, preexec_fn=preexec, text=True, env=env, **popen)  # type: ignore[call-overload]
