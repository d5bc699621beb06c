"""Which program a sub-command of bin/zagreus starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from zagreus.platform.commands import COMMANDS, program
from zagreus.platform.naming import NAMES


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
    places = [argument.replace("FOLDER", str(tmp_path / "FOLDER")) for argument in arguments]
    places = [argument.replace("EXPORT", str(tmp_path / "EXPORT")) for argument in places]
    assert program("chat", places)[:2] == started


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_its_script_and_image(command: str) -> None:
    image, script, _ = program(command, [])
    assert Path(script).is_file() and image in ("host", *NAMES)
