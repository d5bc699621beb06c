"""Lines that somebody types, for the programs that talk to a model."""

from __future__ import annotations

import sys
from collections.abc import Iterator


def typed_lines() -> Iterator[str]:
    """Yield what is typed, line by line, until it ends or a line is empty."""
    while True:
        try:
            # Not as input()'s prompt, which goes to stderr where there is no readline.
            print("> " if sys.stdin.isatty() else "", end="", flush=True)
            line = input()
        except (EOFError, KeyboardInterrupt):
            print()
            return
        if not line.strip():
            return
        yield line
