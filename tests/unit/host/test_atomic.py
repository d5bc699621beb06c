"""What is written appears whole or not at all, whenever its writer is killed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from zagreus.atomic import atomic_file, atomic_folder

DIES = """
import os, signal, sys
from zagreus.atomic import atomic_file, atomic_folder
with {context}(sys.argv[1]) as partial:
    {write}
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("context", ["atomic_file", "atomic_folder"])
def test_a_failed_block_leaves_what_was_there(tmp_path: Path, context: str) -> None:
    target = tmp_path / "made"
    make = {"atomic_file": atomic_file, "atomic_folder": atomic_folder}[context]

    def write(partial: Path, text: str) -> None:
        (partial / "inner" if context == "atomic_folder" else partial).write_text(text)

    with make(target) as partial:
        write(partial, "old")
    with pytest.raises(ZeroDivisionError), make(target) as partial:
        write(partial, "new")
        raise ZeroDivisionError
    assert (target / "inner" if context == "atomic_folder" else target).read_text() == "old"
    assert os.listdir(tmp_path) == ["made"]


@pytest.mark.parametrize(
    ("context", "write"),
    [
        ("atomic_file", 'partial.write_text("half")'),
        ("atomic_folder", '(partial / "inner").write_text("half")'),
    ],
)
def test_a_killed_writer_leaves_nothing_under_the_final_name(
    tmp_path: Path, context: str, write: str
) -> None:
    target = tmp_path / "made"
    died = subprocess.run(
        [sys.executable, "-c", DIES.format(context=context, write=write), str(target)]
    )
    assert died.returncode < 0 and not target.exists()
    with {"atomic_file": atomic_file, "atomic_folder": atomic_folder}[context](target) as partial:
        (partial / "inner" if context == "atomic_folder" else partial).write_text("whole")
    assert os.listdir(tmp_path) == ["made"]


def test_a_folder_takes_the_place_of_a_full_one(tmp_path: Path) -> None:
    target = tmp_path / "made"
    for text in ("one", "two"):
        with atomic_folder(target) as partial:
            (partial / text).touch()
    assert os.listdir(target) == ["two"] and os.listdir(tmp_path) == ["made"]
