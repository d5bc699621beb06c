"""Snakemake's arguments as a user gives them to bin/zagreus, looked at before Snakemake is started.

Snakemake answers a slip in some of these with a traceback of 27 lines, or takes a target for a file.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zagreus.errors import InputError
from zagreus.yaml_file import read_mapping

FILES = ("--configfile", "--configfiles")
VALUES = ("--config", "-C")
DEFAULT = "config.yaml"


def check_arguments(arguments: Sequence[str]) -> None:
    """Check the configuration and the targets that the arguments name.

    Raises:
        InputError: `--configfile` without a file, with a folder, with a file that cannot be read or with a target behind the file;
            `--config` without KEY=VALUE; a target that is no model, no rule and no file of this configuration.
    """
    files = _values(arguments, FILES)
    for option in FILES:
        if option in arguments and not files:
            raise InputError(f"{option}: no file behind it, expected {option} FILE")
    for place, file in enumerate(files):
        if place and not Path(file).exists() and not file.endswith((".yaml", ".yml", ".json")):
            raise InputError(
                f"--configfile takes '{file}' for a file as well; write the target before it: bin/zagreus {file} --configfile {files[0]}"
            )
    configs = [read_mapping(file) for file in files or [DEFAULT] if not file.endswith(".json")]
    for value in _values(arguments, VALUES):
        if not re.match(r"[^=\s]+=", value):
            raise InputError(f"--config: found '{value}', expected KEY=VALUE (targets stand before it)")
    other_workflow = any(argument.split("=")[0] in ("--snakefile", "-s") for argument in arguments)
    if configs and not other_workflow:
        for target in _targets(arguments):
            _check_target(target, configs[-1], files[-1] if files else DEFAULT)


def _values(arguments: Sequence[str], options: Sequence[str]) -> list[str]:
    """Return the values of an option that takes several, `--option A B` or `--option=A`."""
    values: list[str] = []
    taking = False
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if name in options and equals and argument.startswith("-"):
            values.append(value)
            taking = True
        elif argument in options:
            taking = True
        elif argument.startswith("-"):
            taking = False
        elif taking:
            values.append(argument)
    return values


def _targets(arguments: Sequence[str]) -> list[str]:
    """Return the arguments before the first option: what stands behind one may be the option's value."""
    targets: list[str] = []
    for argument in arguments:
        if argument.startswith("-"):
            break
        targets.append(argument)
    return targets


def _check_target(target: str, config: dict[str, Any], file: str) -> None:
    """Raise `InputError` where a word is no model and no rule. A path is Snakemake's to judge."""
    if "/" in target or "." in target or Path(target).exists():
        return
    from zagreus.start_checks import rule_names

    models = [*config.get("models", {}), *config.get("baselines", {})]
    known = [*models, *rule_names()]
    if target not in known:
        near = difflib.get_close_matches(target, known, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"expected all, plan, report, a model ({', '.join(models)}), or a file"
        raise InputError(f"'{target}' is no target of {file}; {hint}")
