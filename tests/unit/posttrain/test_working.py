"""Which working folder a stage goes on in, when recipe, base or the number of GPUs change."""

from __future__ import annotations

from pathlib import Path

from zagreus.launch.variables import FLIGHT_RECORDER
from zagreus.posttraining.working import ASIDE, digest, working_folder

IDENTITY = {"recipe": "r", "base": "b", "data": "d", "batch_ranks": 8, "versions": {"torch": "2"}}


def checkpoint(folder: Path) -> Path:
    """Write a checkpoint into a working folder, and return its file."""
    file = folder / "checkpoints" / "checkpoint-500" / "model.safetensors"
    file.parent.mkdir(parents=True)
    file.write_text(folder.name)
    return file


def test_the_number_of_processes_is_no_part_of_it(tmp_path: Path) -> None:
    checkpoint(tmp_path / digest(IDENTITY))
    for possible in ([1, 2, 4, 8], [1]):
        folder, lines = working_folder(tmp_path, IDENTITY, possible)
        assert (
            folder == tmp_path / digest(IDENTITY)
            and not lines
            and list(folder.rglob("model.safetensors"))
        )


def test_a_folder_whose_name_held_the_number_is_taken_over(tmp_path: Path) -> None:
    """Made by an earlier version on 8 GPUs; the stage goes on with 4."""
    old = tmp_path / digest({**IDENTITY, "processes": 8})
    checkpoint(old)
    folder, (line,) = working_folder(tmp_path, IDENTITY, [1, 2, 4, 8])
    assert (
        not old.exists()
        and (folder / "checkpoints/checkpoint-500/model.safetensors").read_text() == old.name
    )
    assert "another number of processes" in line
    assert working_folder(tmp_path, IDENTITY, [1, 2, 4, 8]) == (folder, [])


def test_what_is_another_ones_is_set_aside(tmp_path: Path) -> None:
    """Another recipe, another version, and a second folder with the number of processes.

    Nothing is lost.
    """
    others = [
        {**IDENTITY, "recipe": "other"},
        {**IDENTITY, "versions": {}},
        {**IDENTITY, "processes": 4},
    ]
    kept = {digest(other): checkpoint(tmp_path / digest(other)) for other in others}
    checkpoint(tmp_path / digest(IDENTITY))
    folder, lines = working_folder(tmp_path, IDENTITY, [1, 2, 4, 8])
    assert len(lines) == 3 and sorted(path.name for path in (tmp_path / ASIDE).iterdir()) == sorted(
        kept
    )
    assert [path.name for path in tmp_path.glob("*/") if path.name != ASIDE] == [folder.name]
    # And again: a name that is taken there is no reason to write over it.
    checkpoint(tmp_path / digest(others[0]))
    working_folder(tmp_path, IDENTITY, [])
    assert len(list((tmp_path / ASIDE).rglob("model.safetensors"))) == 4


def test_the_dumps_of_a_hung_collective_are_no_other_identity(tmp_path: Path) -> None:
    (tmp_path / FLIGHT_RECORDER).mkdir()
    folder, lines = working_folder(tmp_path, IDENTITY, [1])
    assert lines == [] and (tmp_path / FLIGHT_RECORDER).is_dir()
