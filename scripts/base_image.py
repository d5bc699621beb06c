"""Build a base image from Debian packages, from a container registry, or from a file.

    python scripts/base_image.py --source archive --digest 0123456789ab \
        --packages containers/base.packages \
        --output resources/images/base-0123456789ab.sif

Needs apptainer on PATH; no root. zagreus/platform/base.py chooses the source.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import socket
import sys
import urllib.parse
from collections.abc import Sequence
from pathlib import Path

from zagreus import __version__
from zagreus.errors import InputError, run
from zagreus.platform import debian, images
from zagreus.platform.base import DEFINITIONS, Base
from zagreus.platform.disk import require_disk
from zagreus.platform.image_manifest import write_image_manifest

SECONDS = 15  # that a registry may take to answer


def main() -> None:
    """Read the command line, build, write the manifest."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--source", choices=sorted(DEFINITIONS), required=True, help="where the image comes from"
    )
    parser.add_argument(
        "--reference",
        default="",
        help="HOST/NAME@sha256:DIGEST of a registry's image, or the file to build on",
    )
    parser.add_argument("--insecure", action="store_true", help="the registry has no TLS")
    parser.add_argument(
        "--packages",
        type=Path,
        nargs="*",
        default=[],
        help="Debian packages, one a line; archive: first the suite",
    )
    parser.add_argument("--digest", required=True, help="goes into the image's labels")
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        help="the image (.sif), whose folder holds the work files meanwhile",
    )
    arguments = parser.parse_args()

    base = Base(arguments.source, arguments.reference, arguments.insecure)
    print(f"base image: from {base.described()}", file=sys.stderr)
    require_disk(arguments.output.parent, 800, "the base image (46 MB to fetch)")
    values = {
        "digest": arguments.digest,
        "version": __version__,
        "base": base.described(),
        "architecture": platform.machine(),
    }
    package_names = read_packages(arguments.packages)
    if base.source == "archive":
        from_archive(base, package_names, arguments.output, values)
    else:
        if base.source == "registry":
            require_answer(base)
        values |= {"reference": base.reference, "packages": " ".join(package_names)}
        try:
            images.build(
                base.definition, arguments.output, values, bind=None, insecure=base.insecure
            )
        except InputError as error:
            raise InputError(f"{base.described()}: no base image came of it ({error})") from None
    write_image_manifest(arguments.output, {"from": base.described(), "digest": arguments.digest})


def read_packages(paths: Sequence[Path]) -> list[str]:
    """Return the lines of package lists, without comments."""
    lines = [line for path in paths for line in path.read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def require_answer(base: Base) -> None:
    """Raise `InputError` where nothing answers at a registry's address. Behind a proxy that is the
    proxy's to find out.
    """
    if any(
        os.environ.get(name)
        for name in (
            "https_proxy",
            "HTTPS_PROXY",
            "http_proxy",
            "HTTP_PROXY",
            "all_proxy",
            "ALL_PROXY",
        )
    ):
        return
    match = re.match(r"([^/:]+)(?::(\d+))?/", base.reference)
    assert match, base.reference
    # Docker's own registry has another name than its images.
    host = "registry-1.docker.io" if match[1] == "docker.io" else match[1]
    port = int(match[2] or (80 if base.insecure else 443))
    try:
        socket.create_connection((host, port), timeout=SECONDS).close()
    except OSError as error:
        raise InputError(
            f"{host}:{port}: the registry does not answer ({error}); set another one "
            "(make setup REGISTRY=HOST), or bring a base image (docs/platforms.md)"
        ) from None


def from_archive(base: Base, lines: Sequence[str], output: Path, values: dict[str, str]) -> None:
    """Fetch the packages, unpack them, build the image."""
    suite, *package_names = lines
    if not package_names:
        raise InputError(
            "the lists of packages: a suite and no packages, expected one package a line after "
            "the suite"
        )
    entries = debian.read_entries()
    archive, security = debian.find_archive(entries), debian.find_archive(entries, security=True)
    sources = [
        debian.source_line(archive, suite),
        debian.source_line(archive, f"{suite}-updates"),
        debian.source_line(security, f"{suite}-security"),
    ]
    work = output.parent / f".{output.name}.packages"
    packages = debian.PrivateApt(work / "apt", sources).download(package_names)

    tree = (work / "tree").absolute()
    shutil.rmtree(tree, ignore_errors=True)
    print(f"unpacking {len(packages)} packages ...", file=sys.stderr)
    debian.unpack(packages, tree)
    listed = (urllib.parse.unquote(package.stem).split("_")[:2] for package in packages)
    (tree / "etc" / "base-packages").write_text(
        "".join(f"{name} {version}\n" for name, version in sorted(listed)), encoding="utf-8"
    )
    images.build(base.definition, output, values | {"tree": str(tree)}, bind=None)
    shutil.rmtree(work)


if __name__ == "__main__":
    run(main)
