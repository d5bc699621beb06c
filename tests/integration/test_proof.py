"""A real run is verified, equals its repetition, and parts of the run are made again with the same
bytes.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from conftest import CONFIG, ROOT


def zagreus(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a sub-command of bin/zagreus from the repository's root."""
    return subprocess.run(
        [ROOT / "bin" / "zagreus", *arguments], cwd=ROOT, capture_output=True, text=True
    )


def test_a_run_holds_where_it_was_moved_to(first: Path) -> None:
    done = zagreus("verify", first)
    assert done.returncode == 0 and "all holds" in done.stdout, done.stdout + done.stderr


def test_a_disturbed_run_equals_the_undisturbed_one(first: Path, second: Path) -> None:
    done = zagreus("compare", first, second)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "artifacts that both runs have are the same" in done.stdout and "arc_easy" in done.stdout


def test_a_segment_and_a_shard_come_out_the_same_again(second: Path) -> None:
    done = zagreus("audit", "ita", "20", "--configfile", CONFIG)
    assert done.returncode == 0 and "checkpoint ita/20: all" in done.stdout, (
        done.stdout + done.stderr
    )
    done = zagreus("audit", "--sample", "1", "--seed", "0", "--configfile", CONFIG)
    assert done.returncode == 0 and "files equal" in done.stdout, done.stdout + done.stderr
    assert zagreus("verify", second).returncode == 0
    assert not list(second.parent.glob(".audit*"))
