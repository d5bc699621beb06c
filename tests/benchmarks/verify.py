"""How fast `bin/zagreus verify` hashes a run, beside coreutils' sha256sum on the same files.

    PYTHONPATH=.:tests/benchmarks .tools/venv/bin/python -P tests/benchmarks/verify.py

A run is made of twelve large artifacts and a thousand small ones, 600 MB in all; each command runs
five times in turn. The files are in the page cache, so that the disk is left out.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from interleave import Run, interleave, ratios

from zagreus.manifest import write_manifest

RUNS = 5
LARGE, LARGE_BYTES = 12, 50_000_000
SMALL, SMALL_BYTES = 1000, 2_000


def make_run(results: Path) -> int:
    """Make the run; return its bytes."""
    for name, count, size in (("large", LARGE, LARGE_BYTES), ("small", SMALL, SMALL_BYTES)):
        folder = results / "tokens" / name
        folder.mkdir(parents=True)
        for number in range(count):
            file = folder / f"{number:05d}.ds"
            file.write_bytes(os.urandom(size))
            write_manifest(
                folder / f"{number:05d}.json",
                kind="tokens",
                name=f"{name}/{number:05d}",
                outputs=[file],
            )
    return LARGE * LARGE_BYTES + SMALL * SMALL_BYTES


def row(name: str, runs: Sequence[Run], size: int, ratio: tuple[float, float, float]) -> str:
    """Return a row of the table."""
    wall, cpu = (median(getattr(run, field) for run in runs) for field in ("wall", "cpu"))
    low, high = f"{ratio[1]:.2f}", f"{ratio[2]:.2f}"
    return (
        f"| {name} | {wall:.2f} | {size / wall / 1e6:,.0f} | {cpu:.2f} | {ratio[0]:.2f} "
        f"({low} to {high}) |"
    )


def main() -> None:
    """Make a run, time the commands, print the table."""
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder) / "results/run"
        size = make_run(results)
        verify = [sys.executable, "-P", "scripts/verify.py", str(results), "--workers"]
        plain = ["sh", "-c", f"find {results} -name '*.ds' -print0 | xargs -0 sha256sum | tail -1"]
        commands = {"sha256sum": plain, "verify, 1 thread": [*verify, "1"]}
        commands |= {f"verify, {count} threads": [*verify, str(count)] for count in (2, 4)}
        taken = interleave(commands, RUNS)
        faster = ratios(taken, "sha256sum", "wall")
        print(f"{size / 1e6:,.0f} MB in {LARGE + SMALL:,} artifacts, {os.cpu_count()} cores\n")
        print("| command | s | MB/s | CPU s | times faster than sha256sum |")
        print("|---|---|---|---|---|")
        for name, runs in taken.items():
            print(row(name, runs, size, faster[name]))


if __name__ == "__main__":
    main()
