"""What stands beside an image.

What it was built from, and its sha256, so that a copy on another machine can be checked.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zagreus.atomic import atomic_file
from zagreus.errors import InputError


def manifest_of(image: Path) -> Path:
    """Return the manifest's path: NAME-DIGEST.manifest.json."""
    return image.with_name(f"{image.name.removesuffix('.sif')}.manifest.json")


def write_image_manifest(image: Path, facts: Mapping[str, Any]) -> None:
    """Write the manifest of an image that was built.

    Args:
        image: the SIF; a folder has no sha256.
        facts: what it was built from.
    """
    whole: dict[str, Any] = {"image": image.name, "architecture": platform.machine(), **facts}
    if image.is_file():
        whole |= {"bytes": image.stat().st_size, "sha256": sha256(image)}
    with atomic_file(manifest_of(image)) as partial:
        partial.write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")


def sha256(path: Path) -> str:
    """Return the sha256 of a file."""
    with open(path, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def read_image_manifest(image: Path) -> dict[str, Any]:
    """Return an image's manifest; raise `InputError` where it is missing or damaged."""
    path = manifest_of(image)
    if not path.is_file():
        raise InputError(
            f"{image}: no {path.name} beside it, which says what the image holds; copy the whole "
            "folder"
        )
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise InputError(f"{path}: invalid JSON ({error}); copy it again") from None


def check_architecture(manifest: Mapping[str, Any], image: Path) -> None:
    """Raise `InputError` for an image of another kind of processor."""
    if manifest.get("architecture") != platform.machine():
        raise InputError(
            f"{image}: built for {manifest.get('architecture')}, this machine is "
            f"{platform.machine()}; build it on a machine of this kind"
        )


def check_image(image: Path) -> None:
    """Raise `InputError` where a copied image is not the one that its manifest describes, or not
    for this machine.
    """
    manifest = read_image_manifest(image)
    check_architecture(manifest, image)
    if image.is_dir():
        return
    size = image.stat().st_size
    if size != manifest.get("bytes"):
        raise InputError(
            f"{image}: {size:,} bytes, expected {manifest.get('bytes', 0):,}; copy it again"
        )
    digest = sha256(image)
    if digest != manifest.get("sha256"):
        raise InputError(
            f"{image}: sha256 is {digest}, expected {manifest.get('sha256')}; copy it again"
        )
