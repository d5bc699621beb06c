"""`snakemake --lint`, with the findings that this workflow means, each with its reason."""

from __future__ import annotations

import re
from pathlib import Path

from conftest import ROOT, snakemake

HOST = "image|wheelhouse|base_image|environment|download|plan|adopt_tokens|track|ladder"
MEANT = (
    # What builds the images cannot run in them, downloads use the host's own pip settings, and
    # links do not reach out of an image.
    rf"rule ({HOST}) .*Specify a conda environment or container",
    # Their launcher enters the image, on every node.
    r"rule (preflight|pretrain|posttrain) .*Specify a conda environment or container",
    # What they print is what they are asked for.
    r"rule (plan|tokens|ladder) .*No log directive defined",
    # A python of an image or of the set-up, not a path of a machine.
    r"Absolute path \"/opt/venv/bin/python",
    # Let through to the images where it is set; only gated repositories need it.
    r"Environment variable .*HF_TOKEN",
    # Folders shared by all jobs (wheelhouse, tables, benchmarks): a shared file system is this
    # workflow's premise.
    rf"rule ({HOST}|publish|tabulate|plot|report|provenance) .*Param \w+ is a prefix of input or "
    rf"output file",
)


def test_only_what_is_meant(checkout: Path) -> None:
    done = snakemake("--lint", "--configfile", str(ROOT / "config/demo.yaml"), folder=checkout)
    where, findings = "", []
    for line in (done.stdout + done.stderr).splitlines():
        if line.startswith("Lints for "):
            where = line.removeprefix("Lints for ")
        elif line.startswith("    * "):
            findings.append(f"{where} {line.strip()}")
    assert findings, done.stdout + done.stderr
    assert [
        finding for finding in findings if not any(re.search(meant, finding) for meant in MEANT)
    ] == []
