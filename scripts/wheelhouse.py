r"""Fetch the files of a lock into the wheelhouse with the host's pip settings, and check them.

    python scripts/wheelhouse.py --lock envs/train.cpu.lock --python 3.11 \
        --folder resources/wheels --output resources/wheels/train.cpu.json

The output lists the files. After an interruption the program fetches the missing files only.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from zagreus.atomic import atomic_file
from zagreus.errors import run
from zagreus.lock import locked
from zagreus.manifest import sha256_file
from zagreus.platform import wheels
from zagreus.platform.disk import require_disk


def main() -> None:
    """Read the command line, fetch, check, write the list."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--lock", type=Path, required=True, help="lock file (pip's format with hashes)"
    )
    parser.add_argument(
        "--python", required=True, help="version of the Python that will install them, such as 3.11"
    )
    parser.add_argument("--folder", type=Path, required=True, help="the wheelhouse")
    parser.add_argument(
        "--disk", type=int, required=True, help="room that must be free, in megabytes"
    )
    parser.add_argument(
        "--pip",
        action="append",
        default=[],
        help="an argument for pip, such as --pip=--extra-index-url=URL; may be repeated",
    )
    parser.add_argument("--output", type=Path, required=True, help="list of the files (JSON)")
    arguments = parser.parse_args()

    pins = wheels.read_lock(arguments.lock, arguments.python)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    # Locks share packages: two downloads at once would write the same file.
    with locked(arguments.folder / ".lock"):
        missing = wheels.missing_pins(arguments.folder, pins, arguments.python)
        if missing:
            require_disk(arguments.folder, arguments.disk, f"the wheelhouse of {arguments.lock}")
            wheels.download(arguments.lock, arguments.folder, arguments.pip, arguments.python)
        files = wheels.describe_files(arguments.folder, pins, arguments.python)
    with atomic_file(arguments.output) as partial:
        listed = {
            "lock": str(arguments.lock),
            "sha256": sha256_file(arguments.lock),
            "files": files,
        }
        partial.write_text(json.dumps(listed, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    run(main)
