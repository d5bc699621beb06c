"""Check a run: hash every file again and compare with the manifests.

    bin/zagreus verify results/demo

Says what is missing, changed, extra, or a link out of the run. Exit status 0 only if all holds,
1 where something does not hold, 2 for a folder that is no run.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from zagreus.errors import run
from zagreus.proof.run_folder import RunFolder
from zagreus.proof.verify import verify

SHOWN = 20  # problems of one kind that are listed unless --all is given


def main() -> None:
    """Parse the arguments, check, and print what does not hold."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="the results folder of a run")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="threads")
    parser.add_argument("--all", action="store_true", help="list every problem")
    arguments = parser.parse_args()
    started = time.monotonic()
    checked = verify(RunFolder(arguments.run), max(1, arguments.workers), _progress())
    for kind in ("missing", "changed", "link", "extra"):
        problems = [problem for problem in checked.problems if problem.kind == kind]
        for problem in problems if arguments.all else problems[:SHOWN]:
            print(f"{problem.kind:8} {problem.path}: {problem.reason}")
        if len(problems) > SHOWN and not arguments.all:
            print(f"{kind:8} ... and {len(problems) - SHOWN} more (--all lists them)")
    if checked.elsewhere:
        print(
            f"not checked: {len(checked.elsewhere)} inputs outside the run that are not on this "
            f"machine, for example {checked.elsewhere[0]}"
        )
    seconds = time.monotonic() - started
    print(
        f"{arguments.run}: {checked.artifacts} artifacts, {checked.files} files, "
        f"{checked.bytes / 1e6:,.0f} MB in {seconds:.1f} s: "
        + (f"{len(checked.problems)} problems" if checked.problems else "all holds")
    )
    sys.exit(1 if checked.problems else 0)


def _progress() -> Callable[[int, int], None]:
    """Return what shows the progress on a terminal; nothing is shown elsewhere."""
    shown = 0.0

    def show(done: int, total: int) -> None:
        nonlocal shown
        if not sys.stderr.isatty() or (time.monotonic() - shown < 0.2 and done < total):
            return
        shown = time.monotonic()
        end = "\n" if done == total else ""
        print(f"\r{done / 1e6:,.0f} of {total / 1e6:,.0f} MB", end=end, file=sys.stderr, flush=True)

    return show


if __name__ == "__main__":
    run(main)
