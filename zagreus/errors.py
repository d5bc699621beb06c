"""One clear line for bad input, and a non-zero exit."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable


class InputError(Exception):
    """Bad input. The message is one line: what was found, where, and what was expected."""


def run(main: Callable[[], None]) -> None:
    """Run a script's `main`; an `InputError` becomes one line on stderr and exit status 2."""
    try:
        main()
    except InputError as error:
        print(f"{speaker()}error: {error}", file=sys.stderr)
        sys.exit(2)


def speaker() -> str:
    """Return who speaks, where several processes write one log: `rank 37 on a100-05: `, on a line of its
    own (rank 0's progress bar has not ended its line)."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return ""
    return f"\nrank {os.environ.get('RANK', '?')} on {os.environ.get('SLURMD_NODENAME') or socket.gethostname()}: "
