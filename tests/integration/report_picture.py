"""Write the picture of a report that the README shows.

    .tools/dev/bin/python -P tests/integration/report_picture.py results/demo/report.html

The picture shows the top of the page in a window of 1,200 x 1,000 pixels.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from browser import browse, find_chromium

from zagreus.errors import InputError, run

MAX_BYTES = 200_000


def main() -> None:
    """Parse the arguments and write the picture."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("report", type=Path, help="report.html of a finished run")
    parser.add_argument(
        "--output", type=Path, default=ROOT / "docs/assets/report.png", help="the picture to write"
    )
    parser.add_argument("--width", type=int, default=1200, help="width in pixels (default 1200)")
    parser.add_argument("--height", type=int, default=1000, help="height in pixels (default 1000)")
    parser.add_argument(
        "--below", type=int, default=0, help="pixels of the page to skip (default 0)"
    )
    arguments = parser.parse_args()
    if not arguments.report.is_file():
        raise InputError(f"{arguments.report}: no such file")
    chromium = find_chromium()
    if chromium is None:
        raise InputError("no Chromium on this machine; install the package chromium")
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "report.png"
        with browse(chromium, Path(folder) / "profile") as page:
            page.call("Emulation.setScrollbarsHidden", hidden=True)
            page.open(arguments.report.resolve().as_uri(), arguments.width, arguments.height)
            page.ask(f"window.scrollTo({{top: {arguments.below}, behavior: 'instant'}})")
            page.picture(picture)
        data = picture.read_bytes()
    if len(data) > MAX_BYTES:
        raise InputError(f"the picture has {len(data):,} bytes, expected at most {MAX_BYTES:,}")
    arguments.output.write_bytes(data)
    print(f"{arguments.output}: {len(data):,} bytes")


if __name__ == "__main__":
    run(main)
