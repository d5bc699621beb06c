"""Which program a sub-command of bin/zagreus starts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from zagreus.errors import InputError
from zagreus.platform.base import Base
from zagreus.platform.commands import COMMANDS, program
from zagreus.platform.launch import image_of
from zagreus.platform.naming import NAMES, environment_digest, image_digest
from zagreus.platform.state import PLATFORM

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("arguments", "started"),
    [
        (["FOLDER"], ("train", "scripts/chat.py")),
        (["EXPORT"], ("export", "scripts/chat_export.py")),
        (["FOLDER/a.gguf"], ("export", "scripts/chat_export.py")),
        (["--tokens", "4", "http://127.0.0.1:8080"], ("export", "scripts/chat_export.py")),
        (["https://elsewhere/v1"], ("export", "scripts/chat_export.py")),
        (["--help"], ("train", "scripts/chat.py")),
    ],
)
def test_chat_talks_to_folders_exports_and_servers(
    arguments: list[str], started: tuple[str, str], tmp_path: Path
) -> None:
    for name in ("FOLDER", "EXPORT"):
        (tmp_path / name).mkdir()
    (tmp_path / "EXPORT" / "a.gguf").touch()
    expanded = [argument.replace("FOLDER", str(tmp_path / "FOLDER")) for argument in arguments]
    expanded = [argument.replace("EXPORT", str(tmp_path / "EXPORT")) for argument in expanded]
    assert program("chat", expanded)[:2] == started


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_its_script_and_image(command: str) -> None:
    image, script, _ = program(command, [])
    assert Path(script).is_file() and image in ("host", *NAMES)


def test_environments_are_used_where_the_setup_made_no_apptainer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Images may lie in the same folder, from a set-up before."""
    for name in ("envs", "containers"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    archive = {"base": {"from": "archive"}}
    image = Path("resources/images") / f"data-{image_digest('data', 'cpu', Base('archive'))}.sif"
    environment = Path("resources/venvs") / f"data-{environment_digest('data', 'cpu')}"
    for folder in (".tools", image.parent, environment):
        Path(folder).mkdir(parents=True)
    image.touch()
    PLATFORM.write_text(json.dumps({"software": "venv", **archive}))
    with pytest.raises(InputError, match=f"no environment {environment.name}"):
        image_of("data", Path("resources"))
    (environment / "complete").touch()
    assert image_of("data", Path("resources")) == environment
    PLATFORM.write_text(json.dumps({"software": "apptainer", **archive}))
    assert image_of("data", Path("resources")) == image
