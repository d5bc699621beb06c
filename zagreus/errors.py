"""One clear line for bad input, and a non-zero exit."""

from __future__ import annotations

import sys
from collections.abc import Callable


class InputError(Exception):
    """Bad input. The message is one line: what was found, where, and what was expected."""


def run(main: Callable[[], None]) -> None:
    """Run a script's `main`; an `InputError` becomes one line on stderr and exit status 2."""
    try:
        main()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
