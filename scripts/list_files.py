r"""List the files of a source of the data hub, with their bytes and sha256.

The listing is made once. Committed as config/sources.lock.csv it pins the source.

python -P scripts/list_files.py --name fra_web \
    --source '{"repo": ..., "revision": ..., "files": ...}' OUT.csv
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from zagreus.data.hub import list_files, write_listing
from zagreus.errors import run


def main() -> None:
    """Parse the arguments and list."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--name", required=True, help="the source's name")
    parser.add_argument(
        "--source",
        required=True,
        type=json.loads,
        help="the source's entry of the configuration, as JSON",
    )
    parser.add_argument("output", type=Path, help="the listing: source,path,bytes,sha256")
    arguments = parser.parse_args()
    source = arguments.source
    write_listing(
        arguments.output,
        list_files(arguments.name, source["repo"], source["revision"], source["files"]),
    )


if __name__ == "__main__":
    run(main)
