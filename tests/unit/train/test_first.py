"""tests/gpu/first.py, the script for the first minutes on a GPU, rehearsed on a CPU."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from small import environment

SCRIPT = "tests/gpu/first.py"
# Torch's compiler takes seconds to start: one section with it is enough here, `--tiny` without
# `--only` runs all.
REHEARSED = ("facts", "ceilings", "loss", "ours", "nccl", "program")


def run(out: Path, *options: str) -> list[dict]:
    """Run the script; return the lines of first.jsonl."""
    command = [
        sys.executable,
        "-P",
        SCRIPT,
        "--tiny",
        "--device",
        "cpu",
        "--out",
        str(out),
        *options,
    ]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=900)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in (out / "first.jsonl").read_text().splitlines()]


def test_every_section_ends_well(tmp_path: Path) -> None:
    lines = run(
        tmp_path, "--seconds", "800", *(word for name in REHEARSED for word in ("--only", name))
    )
    ends = {line["section"]: line["end"] for line in lines if "end" in line}
    assert ends == dict.fromkeys(REHEARSED, "ok"), {
        name: (tmp_path / f"{name}.log").read_text()[-800:] for name in REHEARSED
    }
    assert [line["tokens_per_second"] > 0 for line in lines if "variant" in line]
    assert {line["dtype"] for line in lines if "hidden_error" in line} == {
        "torch.float32",
        "torch.bfloat16",
    }
    assert next(line for line in lines if line.get("program") == "stopped and resumed")["equal"]
    assert next(line for line in lines if "gradients_equal" in line)["in_backward"] > 0


@pytest.mark.slow  # which section's time is over depends on the machine's speed
def test_what_fails_or_hangs_stops_nothing(tmp_path: Path) -> None:
    """A section that dies, one whose time is over, one for which none is left.

    Each has its line.
    """
    (tmp_path / "out").mkdir()
    lines = run(
        tmp_path / "out",
        "--seconds",
        "4",
        "--only",
        "facts",
        "--only",
        "ceilings",
        "--only",
        "loss",
    )
    ends = [line["end"] for line in lines if "end" in line]
    assert len(ends) == 3 and ends[-1] == "left out: no time left", ends
    assert any(end.startswith("ran past") for end in ends)
    command = [
        sys.executable,
        "-P",
        SCRIPT,
        "--out",
        str(tmp_path / "out"),
        "--only",
        "ours",
        "--tiny",
        "--seconds",
        "60",
    ]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env=environment() | {"CUDA_VISIBLE_DEVICES": ""},
        timeout=120,
    )
    assert (
        done.returncode == 0
        and "no CUDA device here; the rehearsal is --tiny --device cpu" in done.stdout
    )
