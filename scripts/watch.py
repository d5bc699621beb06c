"""Show a run in the browser while it is made, and afterwards.

    bin/zagreus watch                            the run that was started last
    bin/zagreus watch results/demo --port 8800

The page has the jobs that run, wait, are done or failed; of each training loss, learning rate,
speed and time left; hours and cost so far; and the last lines of the logs. The program only reads.
From another machine: ssh -L 8765:localhost:8765 MACHINE, then http://localhost:8765 in the browser.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from zagreus.errors import InputError, run
from zagreus.live.events import NAME
from zagreus.live.server import PageServer
from zagreus.live.snapshot import Snapshots

PORT = 8765
# Folders that make a folder a run, where the run has no events.
PARTS = ("pretrain", "posttrain", "logs", "tokens", "models", "sources")


def main() -> None:
    """Parse the arguments and serve until Ctrl-C."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, nargs="?", help="the results folder of a run")
    parser.add_argument("--port", type=int, default=PORT, help=f"0: a free one (default {PORT})")
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on; 0.0.0.0 lets other machines in, without a password",
    )
    arguments = parser.parse_args()
    if not 0 <= arguments.port <= 65535:
        raise InputError(f"--port: found {arguments.port}, expected 0 to 65535")
    folder = newest_run(Path("results")) if arguments.run is None else check_run(arguments.run)
    snapshots = Snapshots(folder)
    server = PageServer(snapshots, arguments.host, arguments.port)
    print(f"{folder}: {server.address} (Ctrl-C ends the page, not the run)", flush=True)
    if not server.loopback:
        print("warning: whoever reaches this machine can read the run's logs", flush=True)
    if not (folder / NAME).is_file():
        print(f"{folder / NAME}: no such file; trainings are shown, jobs are not", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        server.server_close()


def check_run(folder: Path) -> Path:
    """Return a folder that is a run's.

    Raises:
        InputError: there is no such folder, or nothing of a run is in it.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder, expected the results folder of a run")
    if not (folder / NAME).is_file() and not any((folder / part).is_dir() for part in PARTS):
        raise InputError(f"{folder}: nothing of a run in this folder, expected {NAME}")
    return folder


def newest_run(results: Path) -> Path:
    """Return the run below a folder whose events are the newest.

    Raises:
        InputError: there is none.
    """
    files = sorted(results.glob(f"*/{NAME}"), key=lambda path: path.stat().st_mtime)
    if not files:
        raise InputError(f"{results}: no run with {NAME} in this folder, expected: watch FOLDER")
    return files[-1].parent


if __name__ == "__main__":
    run(main)
