"""Compare the images on this machine with the manifests beside them.

The program compares sha256, size and kind of processor. It needs the standard library only.

python3 scripts/setup/check_images.py [FOLDER]      without FOLDER: resources/images
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from zagreus.errors import InputError, run
from zagreus.platform.image_manifest import check_image


def main() -> None:
    """Check every image; the first that differs ends it."""
    folder = Path(sys.argv[1]) if sys.argv[1:] else ROOT / "resources/images"
    images = sorted(folder.glob("*.sif"))
    if not images:
        raise InputError(
            f"{folder}: no images (*.sif) in it; copy the whole folder resources/images, or "
            "build: make images"
        )
    for image in images:
        check_image(image)
    print(f"{folder}: {len(images)} images are those that their manifests describe")


if __name__ == "__main__":
    run(main)
