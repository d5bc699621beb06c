"""Mirror the scalars of a run's trainings in a tracker, in the tracker's own offline format.

    bin/zagreus track results/demo --to tensorboard --python ~/trackers/bin/python
    bin/zagreus track results/demo --to wandb --live

The tracker's package comes from an environment of your own (--python). What was sent is not sent
again. Nothing of a run waits for this program: a tracker that hangs or refuses ends it alone.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

from zagreus.credentials import mask
from zagreus.errors import BAD_INPUT, InputError, run
from zagreus.failures import one_line, say
from zagreus.live.mirror import mirror
from zagreus.live.trackers import TRACKERS
from zagreus.lock import locked

OLDEST = (3, 11)
SECONDS = 600.0
ENTERED = "ZAGREUS_TRACKER_ENTERED"  # set once this program runs in the tracker's Python


def main() -> None:
    """Parse the arguments, and mirror in the Python that has the tracker."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="the results folder of a run")
    parser.add_argument("--to", required=True, choices=list(TRACKERS), help="the tracker")
    parser.add_argument(
        "--python",
        default=os.environ.get("ZAGREUS_TRACKER_PYTHON"),
        help="the Python that has the tracker's package (ZAGREUS_TRACKER_PYTHON)",
    )
    parser.add_argument("--folder", type=Path, help="where to write (RUN/tracking/TRACKER)")
    parser.add_argument("--project", help="the tracker's project (the name of the run's folder)")
    parser.add_argument("--live", action="store_true", help="with the trainings that still run")
    parser.add_argument(
        "--timeout", type=float, default=SECONDS, help=f"seconds to wait ({SECONDS:.0f})"
    )
    arguments = parser.parse_args()
    if not arguments.run.is_dir():
        raise InputError(f"{arguments.run}: no such folder, expected the results folder of a run")
    if not arguments.timeout > 0:
        raise InputError(f"--timeout: found {arguments.timeout}, expected seconds above 0")
    if arguments.python and ENTERED not in os.environ:
        enter(arguments.python)
    folder = arguments.folder or arguments.run / "tracking" / arguments.to
    project = arguments.project or arguments.run.resolve().name
    ended: list[BaseException | None] = []
    thread = threading.Thread(target=work, args=(arguments, folder, project, ended), daemon=True)
    thread.start()
    thread.join(arguments.timeout)
    if not ended:
        say(
            f"error: {arguments.to} did not answer in {arguments.timeout:g} s; "
            "the same command goes on"
        )
        sys.stdout.flush()
        os._exit(BAD_INPUT)  # the tracker's threads would keep this process
    if ended[0] is not None:
        raise ended[0]


def work(
    arguments: argparse.Namespace, folder: Path, project: str, ended: list[BaseException | None]
) -> None:
    """Mirror; keep the error, or None, in `ended`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        count = 0
        # Two of these would both send what neither has noted yet.
        with locked(folder / ".lock"):
            for line in mirror(
                arguments.run, folder, TRACKERS[arguments.to](folder, project), arguments.live
            ):
                print(line, flush=True)
                count += 1
        print(f"{count} trainings in {folder}")
        ended.append(None)
    except (InputError, OSError) as error:
        ended.append(error)
    except BaseException as error:  # whatever a tracker raises: no credentials, no server
        told = mask(one_line(error))[:300]
        ended.append(InputError(f"{arguments.to} refused ({type(error).__name__}: {told})"))


def enter(python: str) -> None:
    """Replace this process by the same program in another Python.

    Raises:
        InputError: there is no such program, or the Python is too old.
    """
    program = shutil.which(python)
    if program is None:
        raise InputError(f"--python {python}: no such program")
    command = [program, "-c", "import sys; print(*sys.version_info[:2])"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        version = tuple(map(int, done.stdout.split()))
    except ValueError:
        version = ()
    if version < OLDEST:
        told = ".".join(map(str, version)) or "no Python"
        raise InputError(f"--python {python}: {told}, expected Python 3.11 or newer")
    sys.stdout.flush()
    os.environ[ENTERED] = "1"
    os.execv(program, [program, "-P", *sys.argv])


if __name__ == "__main__":
    run(main)
