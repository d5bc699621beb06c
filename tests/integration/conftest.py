"""The whole DAG at the smallest useful size (config/test.yaml), in the real images."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psutil
import pytest
from browser import Page, browse, find_chromium

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "results" / "test"
FIRST = ROOT / "results" / "test-first"
CONFIG = "config/test.yaml"


OFFLINE = [sys.executable, str(Path(__file__).with_name("offline.py"))]


def start(*arguments: str, within: Sequence[str] = ()) -> subprocess.Popen[bytes]:
    """Start the workflow as a user does, or by another command; its output goes on to ours."""
    command = [*within, ROOT / "bin" / "zagreus", *arguments, "--configfile", CONFIG]
    return subprocess.Popen(command, cwd=ROOT, stdout=sys.stderr, stderr=sys.stderr)


def finish(*arguments: str, within: Sequence[str] = ()) -> None:
    """Run the workflow to its end; fail when it fails."""
    started = time.time()
    status = start(*arguments, within=within).wait()
    assert status == 0, f"the run ended with status {status}"
    print(f"the run took {time.time() - started:.0f} s", file=sys.stderr)


def kill_when(moment: Callable[[], bool], *arguments: str) -> bool:
    """Start the workflow and SIGKILL all of its processes at a moment.

    Return whether the moment came before the run's end.
    """
    process = start(*arguments)
    while process.poll() is None:
        if moment():
            for victim in [
                *psutil.Process(process.pid).children(recursive=True),
                psutil.Process(process.pid),
            ]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    victim.kill()
            process.wait()
            return True
        time.sleep(0.05)
    return False


@pytest.fixture(scope="session")
def offline() -> list[str]:
    """What starts a command without a network; empty where this machine does not allow that."""
    return OFFLINE if subprocess.run([*OFFLINE, "--possible"]).returncode == 0 else []


@pytest.fixture(scope="session")
def first(offline: list[str]) -> Path:
    """The results of an undisturbed run, set aside so that a second run can take the same place
    (and thus write the same paths).

    After the target `stage` it has no network, where the machine can do that.
    """
    shutil.rmtree(RESULTS, ignore_errors=True)
    shutil.rmtree(FIRST, ignore_errors=True)
    finish("stage")
    finish("all", within=offline)
    os.rename(RESULTS, FIRST)
    return FIRST


@pytest.fixture(scope="session")
def second(first: Path) -> Iterator[Path]:
    """The results of a run that was killed in the middle of every costly stage, and started again
    each time.
    """

    def steps_logged(pattern: str, steps: int) -> Callable[[], bool]:
        return lambda: any(
            log.read_bytes().count(b'"loss"') >= steps for log in RESULTS.glob(pattern)
        )

    def one_more(pattern: str) -> Callable[[], bool]:
        before = len(list(RESULTS.glob(pattern)))
        return lambda: len(list(RESULTS.glob(pattern))) > before

    killed = {
        "fetch": kill_when(one_more("sources/*/*.parquet"), "all"),
        "pretrain": kill_when(steps_logged("pretrain/*/*.jsonl*", 5), "all"),
        # The only stage whose rolling checkpoints are saved in the middle of an epoch.
        "posttrain": kill_when(one_more("posttrain/*/dpo/**/checkpoint-*"), "all"),
        "evaluate": kill_when(one_more("evaluate/*/*/*.json"), "all"),
    }
    assert all(killed.values()), f"not every stage was met while it ran: {killed}"
    finish("all")
    yield RESULTS


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """A page of a headless Chromium, one for each file of tests."""
    chromium = find_chromium()
    if chromium is None:
        pytest.skip("no Chromium on this machine, and none to be installed (root on Debian could)")
    with browse(chromium, tmp_path_factory.mktemp("profile")) as opened:
        yield opened
