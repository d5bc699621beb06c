"""Time whole commands in interleaved runs on one machine.

A B A B ..., so that a drift of the machine's speed meets both alike.

Each run's wall time is taken from outside, CPU time (user + system) and peak memory are the
kernel's own accounting of the finished process and of those that it waited for (getrusage(2),
wait4(2): `ru_maxrss` is the largest single process, in KiB).
"""

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Run:
    """One run of a command.

    Seconds on the wall, CPU seconds, peak resident bytes of its largest process, its standard
    output.
    """

    wall: float
    cpu: float
    peak: int
    output: str


def run_once(command: Sequence[str]) -> Run:
    """Run one command to its end.

    Raises:
        subprocess.CalledProcessError: it ended with another status than 0.
    """
    start = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.monotonic() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, list(command), output)
    return Run(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, output)


def interleave(commands: Mapping[str, Sequence[str]], runs: int) -> dict[str, list[Run]]:
    """Run every command `runs` times, in turn.

    The order turns round in every second round, so that none is always first.
    """
    results: dict[str, list[Run]] = {name: [] for name in commands}
    for number in range(runs):
        for name in list(commands) if number % 2 == 0 else reversed(list(commands)):
            results[name].append(run_once(commands[name]))
            print(
                f"{name}: run {number + 1} of {runs}, {results[name][-1].wall:.2f} s, "
                f"{results[name][-1].cpu:.2f} s CPU",
                flush=True,
            )
    return results


def ratios(
    results: Mapping[str, Sequence[Run]], base: str, field: str = "cpu"
) -> dict[str, tuple[float, float, float]]:
    """Return how many times less of `field` each command took than `base`, round by round.

    Median, lowest, highest.
    """
    table = {}
    for name, taken in results.items():
        pairs = [
            getattr(reference, field) / getattr(run, field)
            for reference, run in zip(results[base], taken, strict=True)
        ]
        table[name] = (median(pairs), min(pairs), max(pairs))
    return table
