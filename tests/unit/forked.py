"""The repository's scripts, each in a process of its own without the seconds that importing
libraries takes.

A child of the test's process has the libraries already; the modules of this repository and of the
hub's client, which read the environment when they are imported, are imported anew.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

FRESH = ("zagreus", "huggingface_hub")


@dataclass(frozen=True)
class Done:
    """How a script ended: its status, and what it wrote."""

    status: int
    stdout: str
    stderr: str

    @property
    def error(self) -> str:
        """The last line, which is the one that counts; there is no traceback."""
        assert "Traceback" not in self.stdout + self.stderr, self.stderr
        return self.stderr.splitlines()[-1] if self.stderr else ""


def run_script(
    script: str,
    arguments: Sequence[object] = (),
    variables: Mapping[str, str | None] | None = None,
    log: Path | None = None,
) -> Done:
    """Run a script of the repository.

    Args:
        script: its path from the repository's root, the working folder.
        variables: of the environment; None takes one away.
        log: a file for stdout and stderr, as the rules have it; without it both are pipes.
    """
    (out, out_end), (err, err_end) = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        os.close(out)
        os.close(err)
        if log is not None:
            out_end = err_end = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(out_end, 1)
        os.dup2(err_end, 2)
        _become(script, [str(argument) for argument in arguments], variables or {})
    os.close(out_end)
    os.close(err_end)
    stderr = _read(err)
    stdout = _read(out)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if log is not None:
        stderr = log.read_text(errors="replace")
    return Done(status, stdout, stderr)


def _become(script: str, arguments: list[str], variables: Mapping[str, str | None]) -> None:
    """Run a script in this process, and end it."""
    status = 1
    signal.alarm(120)  # a script that never ends is killed
    try:
        sys.stdout = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
        for name, value in variables.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        for name in [name for name in sys.modules if name.split(".")[0] in FRESH]:
            del sys.modules[name]
        sys.argv = [script, *arguments]
        try:
            runpy.run_path(script, run_name="__main__")
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
            if isinstance(end.code, str):
                print(end.code, file=sys.stderr)
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status)


def _read(descriptor: int) -> str:
    with open(descriptor, "rb") as stream:
        return stream.read().decode(errors="replace")
