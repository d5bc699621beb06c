"""Build the base image from Debian packages of the machine's own mirror.

    python scripts/base_image.py --definition containers/base.def --packages containers/base.packages --digest 0123456789ab \
        --output resources/images/base-0123456789ab.sif

Needs apptainer on PATH; no root, no registry of images.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import urllib.parse
from pathlib import Path

from zagreus import __version__
from zagreus.errors import InputError, run
from zagreus.platform import debian, images
from zagreus.platform.disk import require_disk


def main() -> None:
    """Read the command line, fetch the packages, unpack, build."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--definition", type=Path, required=True, help="Apptainer definition file")
    parser.add_argument("--packages", type=Path, required=True, help="first line the suite, then the packages")
    parser.add_argument("--digest", required=True, help="goes into the image's labels")
    parser.add_argument("--output", type=Path, required=True, help="the image (.sif), whose folder holds the work files meanwhile")
    arguments = parser.parse_args()

    require_disk(arguments.output.parent, 800, "the base image (46 MB to fetch)")
    suite, *wanted = [line for line in arguments.packages.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    if not wanted:
        raise InputError(f"{arguments.packages}: a suite and no packages, expected one package a line after the suite")
    entries = debian.read_entries()
    archive, security = debian.find_archive(entries), debian.find_archive(entries, security=True)
    lines = [
        debian.source_line(archive, suite),
        debian.source_line(archive, f"{suite}-updates"),
        debian.source_line(security, f"{suite}-security"),
    ]
    work = arguments.output.parent / ".base"
    apt = debian.PrivateApt(work / "apt", lines)
    packages = apt.download(wanted)

    tree = (work / "tree").absolute()
    shutil.rmtree(tree, ignore_errors=True)
    print(f"unpacking {len(packages)} packages ...", file=sys.stderr)
    debian.unpack(packages, tree)
    listed = (urllib.parse.unquote(package.stem).split("_")[:2] for package in packages)
    (tree / "etc" / "base-packages").write_text("".join(f"{name} {version}\n" for name, version in sorted(listed)), encoding="utf-8")
    values = {"tree": str(tree), "digest": arguments.digest, "version": __version__}
    images.build(arguments.definition, arguments.output, values, bind=None)
    shutil.rmtree(work)


if __name__ == "__main__":
    run(main)
