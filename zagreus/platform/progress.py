"""A talkative program, run so that one line every few seconds tells how far it is."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence

from zagreus.errors import InputError

INTERVAL = 5.0  # seconds between two lines


def run_counted(
    command: Sequence[str],
    pattern: str,
    total: int,
    what: str,
    env: Mapping[str, str] | None = None,
) -> None:
    """Run `command` and count the lines of its output that `pattern` matches.

    `total` of them are expected.

    Its own words are shown only when it fails: the last twenty lines, then an `InputError`.
    """
    said: deque[str] = deque(maxlen=20)
    seen = 0
    started = shown = time.monotonic()
    talkative = {**(env or os.environ), "PYTHONUNBUFFERED": "1"}  # pip would keep its lines back
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=talkative
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            said.append(line.rstrip())
            seen += re.match(pattern, line) is not None
            now = time.monotonic()
            if seen and now - shown > INTERVAL:
                # The first of many tells little about the rest; past the last one, programs go on
                # (pip unpacks what it fetched).
                left = (
                    f", about {(now - started) / seen * (total - seen):.0f} s left"
                    if total / 10 < seen < total
                    else ""
                )
                print(
                    f"{what}: {min(seen, total)} of {total} after {now - started:.0f} s{left}",
                    file=sys.stderr,
                    flush=True,
                )
                shown = now
    if process.returncode:
        print("\n".join(said), file=sys.stderr, flush=True)
        raise InputError(
            f"{what}: '{' '.join(command[:4])}' failed with status {process.returncode}; its own "
            "last words stand above"
        )
