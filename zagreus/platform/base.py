"""Where the base image comes from: Debian's archive, a container registry, or a file that is there.

What an image is made of is in its name, so the source is chosen before anything is built, from what
this machine shows without a network. `make setup BASE=... REGISTRY=...` says it otherwise.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from zagreus.errors import InputError
from zagreus.platform import debian
from zagreus.platform.digest import digest

# Names of images that are built here, NAME-DIGEST.sif; another base-*.sif is a file that somebody
# brought.
BUILT = re.compile(r"base-[0-9a-f]{12}\.sif$")
PINNED = re.compile(r"[\w.-]+(:\d+)?/[\w./-]+(:[\w.-]+)?@sha256:[0-9a-f]{64}")
ENVIRONMENT = Path("containers/environment.sh")
# What the images that train on GPUs have besides: a compiler, Python's headers, the network's
# libraries.
GPU_PACKAGES = Path("containers/gpu.packages")
REFERENCE = Path("containers/base.registry")
DEFINITIONS = {
    "archive": "containers/base.def",
    "registry": "containers/base_registry.def",
    "file": "containers/base_file.def",
}


@dataclass(frozen=True)
class Base:
    """One source of the base image."""

    source: str  # archive, registry or file
    reference: str = ""  # registry: HOST/NAME:TAG@sha256:DIGEST; file: its path
    insecure: bool = False  # registry: without TLS

    @property
    def definition(self) -> Path:
        """Return Apptainer's definition file."""
        return Path(DEFINITIONS[self.source])

    def parts(self, gpu: bool) -> list[Path]:
        """Return the files that decide what the image holds; `gpu`.

        The base of images that compute on GPUs.
        """
        parts = [self.definition]
        if self.source == "archive":
            parts.append(Path("containers/base.packages"))
        elif self.source == "file":
            return [*parts, ENVIRONMENT, Path(self.reference)]
        return [*parts, ENVIRONMENT, *([GPU_PACKAGES] if gpu else [])]

    def digest(self, gpu: bool, further: Sequence[Path] = ()) -> str:
        """Return the twelve digits over all that the image is made of, and over `further` files in
        an image on it.

        The registry's address is left out: the sha256 says what comes, from wherever.
        """
        whole = digest([*self.parts(gpu), *further])
        if self.source != "registry":
            return whole
        return hashlib.sha256(f"{whole} {self.reference.split('@')[1]}".encode()).hexdigest()[:12]

    def described(self) -> str:
        """Return where the image comes from, for a person."""
        if self.source == "archive":
            return "Debian's archive, through this machine's apt"
        return (
            f"the container registry: {self.reference}"
            if self.source == "registry"
            else f"the file {self.reference}"
        )


def registry_base(registry: str = "", reference: str = "") -> Base:
    """Return the base from a registry.

    Args:
        registry: `[http://]HOST[:PORT][/PREFIX]` of a mirror in place of docker.io.
        reference: another image than that of containers/base.registry,
            `docker://HOST/NAME@sha256:DIGEST`.

    Raises:
        InputError: an image that is not pinned by its sha256, or an address that is none.
    """
    pinned = reference.removeprefix("docker://") or _pinned()
    if not PINNED.fullmatch(pinned):
        raise InputError(
            f"base image: found '{pinned}', expected HOST/NAME[:TAG]@sha256:DIGEST (64 "
            "hexadecimal digits)"
        )
    insecure = registry.startswith("http://")
    mirror = re.sub(r"^https?://", "", registry).rstrip("/")
    if mirror:
        if not re.fullmatch(r"[\w.-]+(:\d+)?(/[\w./-]+)?", mirror):
            raise InputError(
                f"REGISTRY: found '{registry}', expected HOST[:PORT][/PREFIX], with http:// "
                "before it where it has no TLS"
            )
        pinned = f"{mirror}/{pinned.split('/', 1)[1]}"
    return Base("registry", pinned, insecure)


def _pinned() -> str:
    lines = [
        line
        for line in REFERENCE.read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    ]
    return lines[0] if lines else ""


def choose(images: Path, setting: Mapping[str, Any]) -> Base:
    """Return the source of the base image.

    Args:
        images: the folder of images.
        setting: `from` (archive, registry, a path, docker://...) and `registry` (a mirror's
            address); empty: chosen here.

    In this order: a base that was built, here or elsewhere; a file base-*.sif of another name;
    Debian's archive; the registry.

    Raises:
        InputError: a setting that names nothing, or several files to choose from.
    """
    choice, registry = setting.get("from") or "", setting.get("registry") or ""
    if choice.startswith("docker://"):
        return registry_base(registry, choice)
    if choice == "archive":
        return Base("archive")
    if choice == "registry":
        return registry_base(registry)
    if choice:
        return _file(Path(choice))
    candidates = [Base("archive"), registry_base(registry)]
    for base in candidates:
        if any((images / f"base-{base.digest(gpu)}.sif").is_file() for gpu in (False, True)):
            return base
    brought = sorted(path for path in images.glob("base-*.sif") if not BUILT.fullmatch(path.name))
    if len(brought) > 1:
        raise InputError(
            f"{images}: {len(brought)} files base-*.sif to build on "
            f"({', '.join(map(str, brought))}); name one: make setup BASE=FILE"
        )
    if brought:
        return _file(brought[0])
    return Base("archive") if has_archive() else registry_base(registry)


def _file(path: Path) -> Base:
    if not path.is_file():
        raise InputError(
            f"BASE={path}: no such file, expected archive, registry, "
            "docker://HOST/NAME@sha256:DIGEST or an image's file"
        )
    return Base("file", str(path))


def has_archive() -> bool:
    """Tell whether this machine's apt can give the packages of the base image."""
    return not archive_problem()


@cache
def archive_problem(security: bool = True) -> str:
    """Return why this machine's apt gives no packages of Debian's; empty where it does.

    Args:
        security: whether the security archive is needed too, as for the base image.
    """
    missing = [name for name in ("apt-get", "dpkg-deb") if not shutil.which(name)]
    if missing:
        return f"{' and '.join(missing)}: not found"
    try:
        entries = debian.read_entries()
        debian.find_archive(entries)
        if security:
            debian.find_archive(entries, security=True)
    except InputError as error:
        return str(error)
    return ""
