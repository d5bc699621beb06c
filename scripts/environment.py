"""Make a virtual environment from a lock and the wheelhouse, for a machine that cannot run images.

    python scripts/environment.py --lock envs/train.cpu.lock --build-lock envs/build.lock \
        --wheels resources/wheels \
        --disk 4000 --output resources/venvs/train-0123456789ab/complete
"""

from __future__ import annotations

import argparse
from pathlib import Path

from zagreus.errors import run
from zagreus.platform import wheels
from zagreus.platform.disk import require_disk


def main() -> None:
    """Read the command line, make the environment."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lock", type=Path, required=True, help="what is installed")
    parser.add_argument("--build-lock", type=Path, required=True, help="what installs it")
    parser.add_argument("--wheels", type=Path, required=True, help="the wheelhouse")
    parser.add_argument(
        "--disk", type=int, required=True, help="room that must be free, in megabytes"
    )
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        help="file in the environment's folder that is written last",
    )
    arguments = parser.parse_args()

    folder = arguments.output.parent
    require_disk(folder, arguments.disk, f"the environment {folder.name}")
    print(
        f"{folder.name}: installing {len(wheels.read_lock(arguments.lock))} packages ...",
        flush=True,
    )
    wheels.make_environment(
        folder.absolute(), [arguments.build_lock, arguments.lock], arguments.wheels.absolute()
    )


if __name__ == "__main__":
    run(main)
