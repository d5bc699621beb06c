"""Snakemake's arguments as a user gives them to bin/zagreus, looked at before Snakemake is started.

Snakemake answers a slip in some of these with a traceback of 27 lines, or takes a target for a
file.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zagreus.config.yaml_file import read_mapping
from zagreus.errors import InputError

FILES = ("--configfile", "--configfiles")
VALUES = ("--config", "-C")
# Options of Snakemake without a value, and with exactly one; others may take the words behind them.
SWITCHES = {
    "-n",
    "--dry-run",
    "--dryrun",
    "-k",
    "--keep-going",
    "-f",
    "--force",
    "-F",
    "--forceall",
    "-t",
    "--touch",
    "-p",
}
SWITCHES |= {
    "--printshellcmds",
    "--rerun-incomplete",
    "--ri",
    "--nolock",
    "--nocolor",
    "--verbose",
    "--notemp",
    "--show-failed-logs",
}
WITH_VALUE = {
    "-j",
    "--jobs",
    "-c",
    "--cores",
    "--profile",
    "--workflow-profile",
    "-d",
    "--directory",
    "-e",
    "--executor",
}
WITH_VALUE |= {
    "-T",
    "--retries",
    "-w",
    "--latency-wait",
    "--apptainer-args",
    "--local-cores",
    "--max-threads",
}
DEFAULT = "config.yaml"


def check_arguments(arguments: Sequence[str]) -> None:
    """Check the configuration and the targets that the arguments name.

    Raises:
        InputError: `--configfile` without a file, with a folder, with a file that cannot be read or
            with a target behind the file; `--config` without KEY=VALUE; a target that is no model,
            no rule and no file of this configuration.
    """
    files = _values(arguments, FILES)
    for option in FILES:
        if option in arguments and not files:
            raise InputError(f"{option}: no file behind it, expected {option} FILE")
    for index, file in enumerate(files):
        if index and not os.path.exists(file) and not file.endswith((".yaml", ".yml", ".json")):
            raise InputError(
                f"--configfile takes '{file}' for a file as well; write the target before it: "
                f"bin/zagreus {file} --configfile {files[0]}"
            )
    configs = [read_mapping(file) for file in files or [DEFAULT]]
    for value in _values(arguments, VALUES):
        if not re.match(r"[^=\s]+=", value):
            raise InputError(
                f"--config: found '{value}', expected KEY=VALUE (targets stand before it)"
            )
    other_workflow = any(argument.split("=")[0] in ("--snakefile", "-s") for argument in arguments)
    if not other_workflow:
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
            taking = False
        elif argument in options:
            taking = True
        elif argument.startswith("-"):
            taking = False
        elif taking:
            values.append(argument)
    return values


def _targets(arguments: Sequence[str]) -> list[str]:
    """Return the targets as far as they can be told from the values of options.

    The words before the first option, and those after an
    option without a value or with exactly one."""
    targets: list[str] = []
    passed, many = 0, False
    for argument in arguments:
        name, equals, _ = argument.partition("=")
        if argument.startswith("-"):
            known = name in SWITCHES or name in WITH_VALUE or re.fullmatch(r"-[cj]\d+", name)
            many = not known and not equals
            passed = 1 if name in WITH_VALUE and not equals else 0
        elif passed:
            passed -= 1
        elif not many:
            targets.append(argument)
    return targets


def _check_target(target: str, config: dict[str, Any], file: str) -> None:
    """Raise `InputError` where a word is no model and no rule, or a path lies in no folder of the
    run. Which files there are in these
    folders is Snakemake's to judge."""
    from zagreus.config.start_checks import patterns, rule_names

    if os.path.exists(target):
        return
    if "/" in target:
        folders = [
            folder for folder in config.get("pathvars", {}).values() if isinstance(folder, str)
        ]
        if folders and not any(
            Path(target).absolute().is_relative_to(Path(folder).absolute()) for folder in folders
        ):
            listed = ", ".join(dict.fromkeys(folders))
            raise InputError(f"'{target}' is no target of {file}, whose folders are {listed}")
        return
    models, baselines = list(config.get("models", {})), config.get("baselines", {})
    if target in baselines:
        results = config.get("pathvars", {}).get("results", "results")
        whole = f"{results}/models/{target}/release/manifest.json"
        raise InputError(
            f"'{target}' is a baseline, which is no target; '{whole}' fetches it, 'evals' scores it"
        )
    known = [*models, *(rule_names() - patterns())]
    if target in patterns():
        raise InputError(
            f"'{target}' is a rule for many files, which is no target of its own; expected one of "
            "its files, or a model"
        )
    if target not in known:
        near = difflib.get_close_matches(target, known, n=1)
        hint = (
            f"did you mean '{near[0]}'?"
            if near
            else f"expected all, plan, report, a model ({', '.join(models)}), or a file"
        )
        raise InputError(f"'{target}' is no target of {file}; {hint}")
