"""Size, load time, memory and speed of an export in its runtime, in a process of its own.

    python -m zagreus.export.measure FILE --threads 2

The method is that of llama.cpp's own benchmark (llama-bench): tokens at random, an empty context
before each run, prompt and generation apart. Runs with one thread and with several take turns; the
medians are printed as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zagreus.errors import InputError, run
from zagreus.export.runtime import Runtime

if TYPE_CHECKING:
    from zagreus.export.onnx_runtime import OnnxRuntime

PROMPT, NEW = 512, 128
ROUNDS = 3
# Threads that wait give their core away. Where another program has a core, threads that spin at
# each barrier are 10 to 60 times slower than these; alone on two cores, the difference is small.
PASSIVE = {"OMP_WAIT_POLICY": "passive"}
LONGEST = 20.0  # seconds that the tokens of one run may take; what was done until then counts


def measure(path: Path, threads: int) -> dict[str, Any]:
    """Measure a file in a process of its own and return `measured`'s result."""
    command = [sys.executable, "-P", "-m", "zagreus.export.measure", str(path)]
    done = subprocess.run(
        [*command, "--threads", str(threads)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | PASSIVE,
    )
    if done.returncode:
        raise InputError(f"{path}: could not be measured ({done.stderr.strip()[-300:]})")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def measured(
    path: Path,
    threads: int,
    rounds: int = ROUNDS,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Any]:
    """Return a file's bytes, load seconds, memory in bytes, and speeds by number of threads.

    Args:
        path: a GGUF or ONNX file.
        threads: of the second kind of run; the first has one.
        rounds: runs of each kind.
        clock: seconds, on the wall or of the processor; speeds are by this clock.
    """
    started = time.perf_counter()
    with open_runtime(path, PROMPT + NEW) as runtime:
        loaded = time.perf_counter() - started
        draw = random.Random(0)
        ids = [draw.randrange(runtime.vocab_size) for _ in range(PROMPT)]
        _prefill(runtime, ids[:32], clock)  # warm up: pages, caches
        counts = sorted({1, threads})
        speeds: dict[int, list[tuple[float, float]]] = {count: [] for count in counts}
        for _ in range(rounds):
            for count in counts:
                runtime.set_threads(count)
                speeds[count].append(
                    (_prefill(runtime, ids, clock), _generate(runtime, draw, clock))
                )
        return {
            "bytes": path.stat().st_size,
            "load_seconds": round(loaded, 4),
            "memory_bytes": _peak_memory(),
            "prompt": PROMPT,
            "new": NEW,
            "speeds": [
                {
                    "threads": count,
                    "prefill": round(statistics.median(one for one, _ in runs), 2),
                    "decode": round(statistics.median(one for _, one in runs), 2),
                }
                for count, runs in speeds.items()
            ],
        }


def open_runtime(path: Path, context: int) -> Runtime | OnnxRuntime:
    """Return a file in the runtime of its kind, with one thread."""
    if path.suffix == ".gguf":
        return Runtime(path, context)
    from zagreus.export.onnx_runtime import OnnxRuntime

    return OnnxRuntime(path, context)


def _prefill(runtime: Runtime | OnnxRuntime, ids: list[int], clock: Callable[[], float]) -> float:
    """Return tokens a second of a prompt."""
    runtime.clear()
    started = clock()
    runtime.decode(ids)
    runtime.wait()
    return len(ids) / (clock() - started)


def _generate(
    runtime: Runtime | OnnxRuntime, draw: random.Random, clock: Callable[[], float]
) -> float:
    """Return tokens a second, one after the other."""
    runtime.clear()
    started, begun, done = clock(), time.perf_counter(), 0
    while done < NEW and (not done or time.perf_counter() - begun < LONGEST):
        runtime.decode([draw.randrange(runtime.vocab_size)], start=done)
        runtime.wait()
        done += 1
    return done / (clock() - started)


def _peak_memory() -> int:
    """Return the largest memory of this process so far, in bytes (Linux's VmHWM)."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path, help="a GGUF or ONNX file")
    parser.add_argument(
        "--threads", type=int, required=True, help="threads of the second kind of run"
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="runs of each kind")
    parser.add_argument(
        "--cpu-seconds", action="store_true", help="speeds by CPU seconds, where others compute too"
    )
    arguments = parser.parse_args()
    clock = time.process_time if arguments.cpu_seconds else time.perf_counter
    result = measured(arguments.file, arguments.threads, arguments.rounds, clock)
    print(json.dumps(result))


if __name__ == "__main__":
    run(main)
