"""One clear line for whatever ends a program, and a non-zero exit."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable

# Exit statuses; 70 and 74 are those of sysexits.h.
BAD_INPUT, UNFORESEEN, SYSTEM, INTERRUPTED = 2, 70, 74, 130


class InputError(Exception):
    """Bad input. The message is one line: what was found, where, and what was expected."""


def run(main: Callable[[], None]) -> None:
    """Run a program's `main`; whatever ends it becomes one line on stderr and an exit status.

    - `InputError`: status 2.
    - An error of the system (disk, memory, permissions): status 74. Any other exception: status 70.
      Both write the whole traceback to the program's log; the line names the log.
    - Ctrl-C: status 130.

    Files that this program had put in place without a manifest that vouches for them are withdrawn.
    Nobody but the owner and the group may write to what a program makes, whatever the umask says.
    """
    from zagreus import atomic, failures

    os.umask(os.umask(0o022) | 0o002)
    try:
        main()
        sys.stdout.flush()
        return
    except InputError as error:
        line, status = f"{speaker()}error: {failures.one_line(error)}", BAD_INPUT
    except KeyboardInterrupt:
        line, status = (
            f"{speaker()}interrupted; started again, it goes on where it stopped",
            INTERRUPTED,
        )
    except Exception as error:
        # Room first: the log may lie on the disk that is full.
        atomic.withdraw()
        line, status = failures.report(error, speaker())
    atomic.withdraw()
    failures.say(line)
    sys.exit(status)


def speaker() -> str:
    """Return who speaks, where several processes write one log: `rank 37 on a100-05.

    `, on a line of its
    own (rank 0's progress bar has not ended its line)."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return ""
    return (
        f"\nrank {os.environ.get('RANK', '?')} on "
        f"{os.environ.get('SLURMD_NODENAME') or socket.gethostname()}: "
    )
