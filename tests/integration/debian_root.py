"""Another Debian in a folder, made by mmdebstrap, and commands in it as a normal user.

The folder becomes the root of a mount namespace (pivot_root(2)), not of a chroot: the kernel
refuses user namespaces in a chroot, and Apptainer needs them. The addresses of this machine's
archives, its package index and their certificates are used in there too; nothing else of it is.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from zagreus.errors import InputError
from zagreus.platform import debian

USER = "somebody"
# ROOT PATH... -- COMMAND...: each PATH, a file or folder of this machine, is seen there too.
ENTER = """
set -e
PATH=$PATH:/usr/sbin
root=$1; shift
mount --make-rprivate /
mount --bind "$root" "$root"
for folder in dev sys; do mount --rbind /$folder "$root/$folder"; done
mount -t proc proc "$root/proc"
for folder in tmp run; do mount -t tmpfs tmpfs "$root/$folder"; done
while [ "$1" != -- ]; do
    if [ -d "$1" ]; then mkdir -p "$root$1"; else mkdir -p "$root${1%/*}"; touch "$root$1"; fi
    mount --bind "$1" "$root$1"; shift
done
shift
mkdir -p "$root/outside"
cd "$root"
pivot_root . outside
umount -l /outside
cd /home/USER
exec setpriv --reuid USER --regid USER --init-groups --inh-caps=-all "$@"
""".replace("USER", USER)


class DebianRoot:
    """A Debian of its own.

    Args:
        folder: where it is made.
        suite: of Debian's archive, e.g. `trixie`.
        packages: installed beside the essential ones.
        seen: files and folders of this machine that are seen in there, at their own paths.
    """

    def __init__(
        self, folder: Path, suite: str, packages: Sequence[str], seen: Sequence[Path]
    ) -> None:
        self.folder, self.suite, self.packages = folder, suite, packages
        self.seen = [*seen, *_network_files(), *_local_index()]

    def make(self) -> None:
        """Make the root folder, with a user who has an empty home.

        Raises:
            InputError: mmdebstrap fails.
        """
        entries = debian.read_entries()
        security = debian.find_archive(entries, security=True)
        stable = "trixie" if self.suite == "sid" else self.suite  # sid has no security archive
        lines = [
            debian.source_line(debian.find_archive(entries), self.suite),
            debian.source_line(security, f"{stable}-security"),
        ]
        command = ["mmdebstrap", "--quiet", "--variant=minbase"]
        command += [f"--include={','.join(['ca-certificates', *self.packages])}"]
        for part in sorted(Path("/etc/apt/apt.conf.d").glob("*")):
            if "Acquire" in part.read_text(encoding="utf-8", errors="replace"):
                copied = f"--customize-hook=copy-in {part} /etc/apt/apt.conf.d"
                command += [f"--aptopt={part}", copied]
        command += [f"--customize-hook=chroot $1 useradd --create-home {USER}"]
        command += ["--customize-hook=chroot $1 git config --system safe.directory '*'"]
        done = subprocess.run(
            [*command, "--", self.suite, str(self.folder), *lines], capture_output=True, text=True
        )
        if done.returncode:
            raise InputError(f"mmdebstrap {self.suite}: {done.stderr.strip()[-2000:]}")

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        """Run a shell command as the user, in the user's home."""
        places = [str(path) for path in self.seen]
        own = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
        own |= {"HOME": f"/home/{USER}", "PATH": "/usr/local/bin:/usr/bin:/bin"}
        return subprocess.run(
            ["unshare", "--mount", "--pid", "--fork", "--kill-child", "bash", "-c", ENTER, "bash"]
            + [str(self.folder), *places, "--", "bash", "-ec", command],
            env=own | {"LANG": "C.UTF-8", "USER": USER},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )


def _network_files() -> list[Path]:
    """Return what says how the network is reached, and whom to trust there."""
    paths = (Path("/etc/resolv.conf"), Path("/etc/hosts"), Path("/etc/ssl/certs"))
    return [path for path in paths if path.exists()]


def _local_index() -> list[Path]:
    """Return pip's configuration for all users, and the local files and folders that it names."""
    pip = [sys.executable, "-m", "pip", "config"]
    debug = subprocess.run([*pip, "debug"], capture_output=True, text=True).stdout
    files = [Path(file) for file in re.findall(r"^\s+(/etc/\S+), exists: True", debug, re.M)]
    listed = subprocess.run([*pip, "list"], capture_output=True, text=True).stdout
    named = {Path(name) for name in re.findall(r"['\s](?:file://)?(/[^'\s]+)", listed)}
    # An index's pages name files that lie beside them.
    folders = {path.parent if path.name == "simple" else path for path in named if path.exists()}
    return [*files, *sorted(folders - set(files) - set(_network_files()))]


def no_namespace() -> str | None:
    """Return why no mount namespace can be had here, where that is so."""
    probe = ["unshare", "--mount", "mount", "--make-rprivate", "/"]
    if os.geteuid() or subprocess.run(probe, capture_output=True).returncode:
        return "needs a mount namespace of root's"
    return None
