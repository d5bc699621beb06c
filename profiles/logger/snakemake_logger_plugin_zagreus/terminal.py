"""Lines that stay, above a small block that is drawn anew in place."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import TextIO

COLOURS = {"error": "\033[31m", "warning": "\033[33m", "good": "\033[32m"}
# https://www.xfree86.org/current/ctlseqs.html: CUU and ED go up and erase; DECAWM off keeps a long
# line from wrapping.
UP_AND_ERASE = "\r\033[{}A\033[J"
NO_WRAP, WRAP = "\033[?7l", "\033[?7h"


class Screen:
    """A stream; `live` where it is a terminal on which a block can be redrawn."""

    def __init__(self, stream: TextIO, colour: bool) -> None:
        self.stream = stream
        self.live = stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self.colour = colour and self.live and "NO_COLOR" not in os.environ
        self.written = time.time()  # when the last line was
        self._block: list[str] = []

    def write(self, line: str, style: str | None = None) -> None:
        """Write a line that stays, where the block was."""
        if self.colour and style:
            line = f"{COLOURS[style]}{line}\033[0m"
        self.draw([])
        self.stream.write(line + "\n")
        self.written = time.time()

    def draw(self, block: Sequence[str]) -> None:
        """Put `block` in the place of the one drawn before; an empty one erases it."""
        if self.live and list(block) != self._block:
            columns = os.get_terminal_size(self.stream.fileno()).columns or 80
            erase = UP_AND_ERASE.format(len(self._block)) if self._block else ""
            drawn = "".join(f"{line[: columns - 1]}\n" for line in block)
            self.stream.write(erase + (NO_WRAP + drawn + WRAP if block else ""))
            self._block = list(block)
        self.stream.flush()
