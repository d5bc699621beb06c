"""A slip on the command line of bin/zagreus is one line, not Snakemake's traceback."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from zagreus.errors import InputError
from zagreus.platform.arguments import check_arguments
from zagreus.platform.commands import COMMANDS

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("itaa -n", "'itaa' is no target of config.yaml; did you mean 'ita'?"),
        ("-n itaa", "'itaa' is no target of config.yaml; did you mean 'ita'?"),
        ("-n -j 4 --profile x itaa", "did you mean 'ita'?"),
        (
            "smollm2-135m-instruct",
            "is a baseline, which is no target; "
            "'results/zagreus/models/smollm2-135m-instruct/release/",
        ),
        (
            "results/zagreus/report.html --configfile config/test.yaml",
            "is no target of config/test.yaml, whose folders are results/test",
        ),
        ("fetch", "'fetch' is a rule for many files, which is no target of its own"),
        ("--configfile=config/test.yaml spa", "'spa' is no target of config/test.yaml"),
        (
            "spa -n --configfile config/test.yaml",
            "'spa' is no target of config/test.yaml; expected all, plan, report, a model (ita, fra",
        ),
        ("ita -n --configfile", "--configfile: no file behind it"),
        ("-n --configfile nope.yaml", "nope.yaml: no such file"),
        ("-n --configfile=config", "config: is a folder, expected a YAML file"),
        (
            "--configfile config/test.yaml ita",
            "write the target before it: bin/zagreus ita --configfile config/test.yaml",
        ),
        ("ita --config over_budget", "--config: found 'over_budget', expected KEY=VALUE"),
        ("--config over_budget=True ita", "--config: found 'ita', expected KEY=VALUE"),
    ],
)
def test_one_line(monkeypatch: pytest.MonkeyPatch, arguments: str, expected: str) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(InputError) as raised:
        check_arguments(arguments.split())
    assert expected in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "arguments",
    [
        "all --configfile config/demo.yaml",
        "ita -n",
        "-n ita --configfile config/test.yaml --config over_budget=True software=venv",
        "results/demo/report.html --configfile config/demo.yaml -j 1",
        "unit_data --snakefile tests/unit.smk --configfile config/test.yaml",
        "images plan stage tokenizer provenance plot tabulate preflight adopt tokens bases evals",
        "--configfile=config/test.yaml ita",
        "-n --quiet all itaa -j4 ita",
        "--until itaa",
        "results/zagreus/report.html",
        "all --configfile config/demo.yaml --set-resources pretrain:mem_mb=1 -n",
        "",
    ],
)
def test_what_is_right_passes(monkeypatch: pytest.MonkeyPatch, arguments: str) -> None:
    monkeypatch.chdir(ROOT)
    check_arguments(arguments.split())


def test_the_help_has_each_command_in_one_line() -> None:
    done = subprocess.run([ROOT / "bin/zagreus", "--help"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    commands = re.findall(r"^    ([a-z]+) +[A-Z].*\.$", done.stdout, re.MULTILINE)
    assert commands == list(COMMANDS)
    documented = set(
        re.findall(r"`(?:bin/zagreus )?([a-z]+)[^`]*`", (ROOT / "docs/usage.md").read_text())
    )
    assert set(COMMANDS) <= documented
