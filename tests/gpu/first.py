"""All that is to be learnt in 400 seconds on one bare GPU.

Sections, each a process with its own time limit,
ordered by worth. A section that fails or hangs never stops the next one.

    PYTHONUNBUFFERED=1 PYTHONPATH=$PWD python3 -P tests/gpu/first.py --out OUT
    ... --only ours --only profile        some of them
    ... --tiny --device cpu               the rehearsal, in `make test`

It needs torch, numpy, PyYAML and safetensors; for the last section transformers. OUT/first.jsonl
has a line for each figure and one for each section's end; OUT/NAME.log what a section wrote.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

# Name and time limit in seconds. What must hold stands in tests/gpu/sections.py.
SECTIONS = {
    "facts": 15,
    "ceilings": 40,
    "loss": 40,
    "same_training": 60,
    "ours": 130,
    "profile": 40,
    "program": 90,
    "nccl": 30,
    "memory": 30,
    "rival": 90,
}
WHOLE = 400


def main() -> None:
    """Run the sections one after the other, or be one of them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for first.jsonl, the logs and the trace"
    )
    parser.add_argument(
        "--only",
        action="append",
        choices=list(SECTIONS),
        help="a section; several times for several",
    )
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--tiny", action="store_true", help="small shapes: a rehearsal")
    parser.add_argument(
        "--seconds", type=float, default=WHOLE, help=f"for all sections together (default {WHOLE})"
    )
    parser.add_argument("--section", choices=list(SECTIONS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.section:
        sys.path.insert(0, str(Path(__file__).parent))
        from sections import Setting, run_section

        run_section(arguments.section, Setting(arguments.device, arguments.tiny, arguments.out))
        return
    ends = time.monotonic() + arguments.seconds
    failed = [name for name in arguments.only or SECTIONS if not start(name, arguments, ends)]
    said = f"failed: {', '.join(failed)}" if failed else "all sections ended well"
    print(f"{arguments.out / 'first.jsonl'}: {said}")


def start(name: str, arguments: argparse.Namespace, ends: float) -> bool:
    """Run a section in a process of its own, and note how it ended; return whether it did well."""
    # A rehearsal has a core that it shares, and the compiler's start takes most of its time.
    limit = min(SECTIONS[name] * (4 if arguments.tiny else 1), ends - time.monotonic())
    if limit < 2:
        note(arguments.out, {"section": name, "end": "left out: no time left"})
        return False
    command = [
        sys.executable,
        "-P",
        __file__,
        "--section",
        name,
        "--out",
        str(arguments.out),
        "--device",
        arguments.device,
    ]
    command += ["--tiny"] if arguments.tiny else []
    started = time.monotonic()
    with open(arguments.out / f"{name}.log", "wb") as log:
        process = subprocess.Popen(command, stderr=log, start_new_session=True)
        try:
            status = process.wait(limit)
            end = (
                "ok"
                if status == 0
                else f"status {status}: {last_line(arguments.out / f'{name}.log')}"
            )
        except subprocess.TimeoutExpired:
            end = f"ran past {limit:.0f} s"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # what it has started too
            process.wait()
    note(
        arguments.out,
        {"section": name, "end": end, "seconds": round(time.monotonic() - started, 1)},
    )
    return end == "ok"


def note(out: Path, record: dict[str, object]) -> None:
    """Append a line to first.jsonl, and show it."""
    with open(out / "first.jsonl", "a", encoding="utf-8") as lines:
        lines.write(json.dumps(record) + "\n")
    print("  ".join(f"{key} {value}" for key, value in record.items()), flush=True)


def last_line(log: Path) -> str:
    """Return what a program said last."""
    lines = [
        line
        for line in log.read_text(encoding="utf-8", errors="replace").splitlines()
        if line.strip()
    ]
    return lines[-1][:300] if lines else "it said nothing"


if __name__ == "__main__":
    main()
