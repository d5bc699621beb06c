"""Build one image on the base image, from its lock and the wheelhouse alone, and check its labels.

    python scripts/image.py --name train --definition containers/train.def \
        --base resources/images/base-0123456789ab.sif \
        --lock envs/train.cpu.lock --build-lock envs/build.lock --wheels resources/wheels \
        --digest 0123456789ab \
        --disk 4000 --output resources/images/train-0123456789ab.sif

Needs apptainer on PATH. Seconds for `data`, a few minutes for those with torch.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
from pathlib import Path

from spython.main import Client

from zagreus import __version__
from zagreus.atomic import atomic_file
from zagreus.errors import InputError, run
from zagreus.manifest import sha256_file
from zagreus.platform import images
from zagreus.platform.disk import require_disk
from zagreus.platform.image_manifest import (
    check_architecture,
    manifest_of,
    read_image_manifest,
    write_image_manifest,
)


def check_labels(image: Path, expected: dict[str, str]) -> None:
    """Inspect the built image and raise `InputError` unless it carries the labels that it was built
    with.
    """
    with tempfile.TemporaryDirectory() as folder, images.singularity_on_path(Path(folder)):
        labels = Client.inspect(str(image))["attributes"]["labels"]
    for key, value in expected.items():
        if labels.get(key) != value:
            raise InputError(f"{image}: label '{key}' is {labels.get(key)!r}, expected {value!r}")


def main() -> None:
    """Read the command line, build, check."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--name", required=True, help="which image")
    parser.add_argument("--definition", type=Path, required=True, help="Apptainer definition file")
    parser.add_argument("--base", type=Path, required=True, help="the base image")
    parser.add_argument("--lock", type=Path, required=True, help="what is installed")
    parser.add_argument("--build-lock", type=Path, required=True, help="what installs it")
    parser.add_argument("--wheels", type=Path, required=True, help="the wheelhouse")
    parser.add_argument("--digest", required=True, help="goes into the image's labels")
    parser.add_argument(
        "--disk", type=int, required=True, help="room that must be free, in megabytes"
    )
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        help="NAME.sif; NAME.json where the image is to be a folder, NAME",
    )
    arguments = parser.parse_args()

    require_disk(arguments.output.parent, arguments.disk, f"building {arguments.output.name}")
    labels = {"digest": arguments.digest, "lock": sha256_file(arguments.lock)}
    # A base that somebody brought from an older checkout has none.
    base = read_image_manifest(arguments.base) if manifest_of(arguments.base).exists() else {}
    if base:
        check_architecture(base, arguments.base)
    values = {
        "base": str(arguments.base.absolute()),
        "lock": str(arguments.lock),
        "build_lock": str(arguments.build_lock),
        "lock_sha256": labels["lock"],
        "digest": arguments.digest,
        "version": __version__,
        "base_from": base.get("from", arguments.base.name),
        "architecture": platform.machine(),
    }
    target = (
        arguments.output if arguments.output.suffix == ".sif" else arguments.output.with_suffix("")
    )
    images.build(
        arguments.definition, target, values, bind=f"{arguments.wheels.absolute()}:/wheels:ro"
    )
    check_labels(target, labels)
    write_image_manifest(target, {**labels, "base": arguments.base.name, "from": base.get("from")})
    if target != arguments.output:
        with atomic_file(arguments.output) as partial:
            partial.write_text(json.dumps(labels) + "\n", encoding="utf-8")


if __name__ == "__main__":
    run(main)
