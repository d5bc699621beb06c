"""The sub-commands of bin/zagreus: each one is a script, in an image or on the host."""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from zagreus.errors import InputError
from zagreus.platform.launch import launch

# Command: the image that its script runs in, or `host`, and whether the script goes to the network.
COMMANDS: dict[str, tuple[str, bool]] = {
    "doctor": ("host", False),
    "verify": ("host", False),
    "compare": ("data", False),
    "audit": ("host", False),
    "show": ("data", False),
    "watch": ("host", False),
    "track": ("host", False),
    "chat": ("train", False),
    "serve": ("export", False),
    "pin": ("data", True),
    "publish": ("data", True),
}
# Commands that work before `make setup`: their scripts need the standard library alone.
BEFORE_SETUP = ("doctor",)

HELP = """\
usage: bin/zagreus TARGET [--configfile FILE] [-n] [ARGUMENTS OF SNAKEMAKE]
       bin/zagreus COMMAND [ARGUMENTS]

bin/zagreus is Snakemake as `make setup` set it up, and a few commands.

    bin/zagreus all --configfile config/demo.yaml     makes everything, and goes on after a stop
    bin/zagreus -n all                                shows the jobs of config.yaml, and runs none
    bin/zagreus plan --configfile config/small.yaml   prints hours, disk and cost

Targets (docs/usage.md): all, plan, tokens, bases, evals, ladder, report, stage, adopt,
a model's name, or any file of a run.

Commands (--help after a command lists its options):

{commands}

Snakemake's own options: .tools/venv/bin/snakemake --help
"""


def start(root: Path, command: str, arguments: Sequence[str]) -> None:
    """Replace this process by a sub-command's script.

    Args:
        root: the repository, which becomes the working folder.
        command: a key of `COMMANDS`.
        arguments: for the script; paths are taken from the folder where the user is.
    """
    image, script, network = program(command, arguments)
    script_arguments = [_from_root(argument, root) for argument in arguments]
    os.chdir(root)
    if image != "host":
        launch(image, script, script_arguments, network)
    python = root / ".tools/venv/bin/python"
    if not python.exists() and command in BEFORE_SETUP:
        python = Path(sys.executable)
    if not python.exists():
        raise InputError(f"{root / '.tools'}: not set up yet; run `make setup`")
    os.environ["PYTHONPATH"] = str(root)
    os.execv(python, [str(python), "-P", script, *script_arguments])


def help_text(root: Path) -> str:
    """Return the help of bin/zagreus: usage, targets and each command with its script's first line.

    Args:
        root: the repository.
    """
    lines = []
    for command in COMMANDS:
        text = ast.get_docstring(ast.parse((root / f"scripts/{command}.py").read_text())) or ""
        lines.append(f"    {command:<9} {text.splitlines()[0]}")
    return HELP.format(commands="\n".join(lines))


def program(command: str, arguments: Sequence[str]) -> tuple[str, str, bool]:
    """Return a sub-command's image (or `host`), its script, and whether the script needs a network.

    Args:
        command: a key of `COMMANDS`.
        arguments: what the user gave: `chat` with an export or a server has a script of its own.
    """
    image, network = COMMANDS[command]
    if command == "chat" and any(map(_is_export, arguments)):
        return "export", "scripts/chat_export.py", network
    return image, f"scripts/{command}.py", network


def _is_export(argument: str) -> bool:
    """Tell whether an argument of `chat` is a server's address, a GGUF file or a folder of one."""
    if argument.startswith(("http://", "https://")) or argument.endswith(".gguf"):
        return True
    return Path(argument).is_dir() and any(Path(argument).glob("*.gguf"))


def _from_root(argument: str, root: Path) -> str:
    """Return an argument that names a file as it is named from the root, and any other as it is."""
    key, equals, value = (
        argument.partition("=") if argument.startswith("--") else ("", "", argument)
    )
    # Links stay: a virtual environment's Python is one, and is another program behind it.
    path = Path(os.path.abspath(value)) if value else None
    if path is None or not path.exists():
        return argument
    return f"{key}{equals}{path.relative_to(root) if path.is_relative_to(root) else path}"
