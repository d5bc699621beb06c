"""Packages from Debian's archive, resolved and checked by apt in a private state.

Nothing on the machine is changed, no root is needed.

The archive's address, its keyring and any proxy are the machine's own (sources.list(5),
apt.conf(5)); none is named here.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from zagreus.errors import InputError
from zagreus.platform.progress import run_counted

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


@dataclass(frozen=True)
class Entry:
    """One repository of the machine's apt configuration."""

    uri: str
    suites: tuple[str, ...]
    components: tuple[str, ...]
    signed_by: str | None


def read_entries(etc: Path = Path("/etc/apt")) -> list[Entry]:
    """Read the enabled binary repositories of `etc`.

    Sources.list, and sources.list.d in one-line and deb822 style (sources.list(5)).
    """
    entries: list[Entry] = []
    listed = [etc / "sources.list", *sorted((etc / "sources.list.d").glob("*"))]
    for path in listed:
        if path.suffix == ".list" and path.is_file():
            entries += _one_line(path.read_text(encoding="utf-8"))
        elif path.suffix == ".sources" and path.is_file():
            entries += _deb822(path.read_text(encoding="utf-8"))
    return entries


def _one_line(text: str) -> list[Entry]:
    entries = []
    for line in text.splitlines():
        match = re.match(
            r"deb\s+(?:\[(?P<options>[^]]*)\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)\s*(?P<components>[^#]*)",
            line.strip(),
        )
        if match:
            signed = re.search(r"signed-by=(\S+)", match["options"] or "", re.IGNORECASE)
            entries.append(
                Entry(
                    match["uri"],
                    (match["suite"],),
                    tuple(match["components"].split()),
                    signed[1] if signed else None,
                )
            )
    return entries


def _deb822(text: str) -> list[Entry]:
    entries = []
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    for stanza in re.split(r"\n\s*\n", "\n".join(lines)):
        fields = {
            key.lower(): value.strip()
            for key, value in re.findall(r"^([\w-]+):((?:.*)(?:\n[ \t].*)*)", stanza, re.MULTILINE)
        }
        if (
            "deb" not in fields.get("types", "").split()
            or fields.get("enabled", "yes").lower() == "no"
        ):
            continue
        signed = fields.get("signed-by")
        # A key may stand in the stanza itself; then Debian's own keyring file serves.
        signed = signed if signed and signed.startswith("/") else None
        for uri in fields.get("uris", "").split():
            entries.append(
                Entry(
                    uri,
                    tuple(fields.get("suites", "").split()),
                    tuple(fields.get("components", "").split()),
                    signed,
                )
            )
    return entries


def find_archive(entries: Sequence[Entry], security: bool = False) -> Entry:
    """Return the machine's entry for Debian's main archive, or for its security archive.

    Raise `InputError` where it has none.
    """
    for entry in entries:
        is_security = any(suite.endswith(("-security", "/updates")) for suite in entry.suites)
        is_debian = "main" in entry.components and (
            "debian-archive" in (entry.signed_by or "")
            or re.search(r"/debian(-security)?/?$", entry.uri) is not None
        )
        if is_debian and is_security == security:
            return entry
    kind = "security archive" if security else "archive"
    raise InputError(
        f"/etc/apt: no entry for Debian's {kind} among {len(entries)} repositories; one is needed "
        "to fetch packages from"
    )


def source_line(archive: Entry, suite: str) -> str:
    """Return the one-line entry of another suite of the archive, with the same key."""
    keyring = archive.signed_by or (KEYRING if Path(KEYRING).exists() else None)
    options = f"[signed-by={keyring}] " if keyring else ""
    return f"deb {options}{archive.uri} {suite} main"


class PrivateApt:
    """An apt of its own in `folder`.

    It knows the given sources, believes that nothing is installed, and touches nothing outside.
    """

    def __init__(self, folder: Path, lines: Sequence[str]) -> None:
        """Write the state.

        The machine's apt.conf parts (proxies, certificates) are kept, its hooks are dropped.
        """
        if shutil.which("apt-get") is None:
            raise InputError(
                "apt-get: not found; the packages come from Debian's archive, so a Debian machine "
                "is needed"
            )
        folder = folder.absolute()
        for part in ("lists/partial", "archives/partial", "apt.conf.d"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        (folder / "status").write_text("")
        (folder / "sources.list").write_text("".join(f"{line}\n" for line in lines))
        for own in Path("/etc/apt/apt.conf.d").glob("*"):
            if own.is_file() and os.access(own, os.R_OK):
                shutil.copyfile(own, folder / "apt.conf.d" / own.name)
        hooks = (
            "APT::Update::Pre-Invoke",
            "APT::Update::Post-Invoke",
            "APT::Update::Post-Invoke-Success",
            "DPkg::Pre-Install-Pkgs",
            "DPkg::Post-Invoke",
        )
        (folder / "apt.conf.d" / "zz-private").write_text(
            "".join(f"#clear {hook};\n" for hook in hooks)
        )
        settings = {
            "Dir::Etc::Parts": folder / "apt.conf.d",
            "Dir::Etc::sourcelist": folder / "sources.list",
            "Dir::Etc::sourceparts": "/dev/null",
            "Dir::Etc::preferencesparts": "/dev/null",
            "Dir::State": folder,
            "Dir::State::lists": folder / "lists",
            "Dir::State::status": folder / "status",
            "Dir::Cache": folder,
            "Dir::Cache::archives": folder / "archives",
            "APT::Sandbox::User": "",
            "Acquire::Languages": "none",
        }
        (folder / "apt.conf").write_text(
            "".join(f'{key} "{value}";\n' for key, value in settings.items())
        )
        self.folder = folder
        self.environment = {
            **os.environ,
            "APT_CONFIG": str(folder / "apt.conf"),
            "DEBIAN_FRONTEND": "noninteractive",
            "LC_ALL": "C",
        }

    def download(self, names: Sequence[str]) -> list[Path]:
        """Fetch the packages `wanted` (names or apt-patterns) with all that they depend on.

        Return the files, sorted by name.

        What an interrupted call has fetched is not fetched again. Raises `InputError` when apt
        fails.
        """
        self._apt("update", total=2 * len((self.folder / "sources.list").read_text().splitlines()))
        self._apt(
            "autoclean"
        )  # a version that an interrupted call fetched and that the archive has replaced since
        plan = ["install", "--yes", "--no-install-recommends"]
        simulated = subprocess.run(
            ["apt-get", *plan, "--simulate", *names],
            check=False,
            env=self.environment,
            capture_output=True,
            text=True,
        )
        self._apt(*plan, "--download-only", *names, total=simulated.stdout.count("\nInst "))
        return sorted((self.folder / "archives").glob("*.deb"))

    def _apt(self, *arguments: str, total: int = 0) -> None:
        run_counted(
            ["apt-get", *arguments], r"Get:\d+ ", total, "packages of Debian", self.environment
        )


def unpack(packages: Sequence[Path], tree: Path) -> None:
    """Unpack the files of binary packages into `tree`, a system with merged /usr, without running
    their scripts.
    """
    for name in ("bin", "sbin", "lib", "lib64"):
        (tree / "usr" / name).mkdir(parents=True, exist_ok=True)
        (tree / name).symlink_to(f"usr/{name}")
    for package in packages:
        # dpkg-deb --extract would put a package's /lib folder in the place of the link.
        with subprocess.Popen(
            ["dpkg-deb", "--fsys-tarfile", str(package)], stdout=subprocess.PIPE
        ) as archive:
            subprocess.run(
                ["tar", "--extract", "--keep-directory-symlink", "--directory", str(tree)],
                stdin=archive.stdout,
                check=True,
            )
        if archive.returncode:
            raise InputError(
                f"{package}: not a whole Debian package (dpkg-deb failed with status "
                f"{archive.returncode})"
            )
