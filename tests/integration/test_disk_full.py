"""A disk that fills up in the middle of a job.

One line, nothing under a final name, and with room the same bytes.

Each rule runs alone, as `bin/zagreus audit` runs one: in a folder of its own with links to the run.
The folder that the rule writes to is a small file system in memory.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import CONFIG, ROOT

from zagreus.proof.audit import prepare
from zagreus.proof.run_folder import RunFolder

# The rule's artifact (a manifest), the folder that it writes to, and the kilobytes beyond what lies
# there that are too few for it.
RULES = {
    "fetch": ("sources/ita_bible/00000.json", "sources/ita_bible", 64),
    "fetch_chat": ("chat/preferences.json", "chat", 16),
    "fetch_evaluation": ("evaluation_data/heldout_ita.json", "evaluation_data", 4),
    "tokenizer": ("tokenizer/manifest.json", "tokenizer", 64),
    "clean": ("clean/code_homeassistant/00000.json", "clean/code_homeassistant", 64),
    "tokenize": ("tokens/ita_bible/00000.json", "tokens/ita_bible", 64),
    "pretrain": ("pretrain/ita/20.json", "pretrain/ita/checkpoints", 512),
    "convert": ("models/ita/20/manifest.json", "models/ita", 512),
    "posttrain": ("models/nesso-instruct/sft/manifest.json", "models/nesso-instruct", 512),
    "fetch_model": (
        "models/smollm2-135m-instruct/release/manifest.json",
        "models/smollm2-135m-instruct",
        4096,
    ),
    "evaluate": ("evaluate/ita/120/languages.json", "evaluate/ita/120", 4),
}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A folder for a small file system; what is mounted there goes afterwards."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], capture_output=True
    ).returncode:
        pytest.skip("no file system can be mounted here (this needs root)")
    subprocess.run(["umount", folder], check=True)
    yield folder
    subprocess.run(["umount", folder], capture_output=True)


@pytest.mark.slow
@pytest.mark.parametrize("rule", RULES)
def test_a_full_disk_is_one_line_and_loses_nothing(second: Path, disk: Path, rule: str) -> None:
    manifest, written, kilobytes = RULES[rule]
    run = RunFolder(second)
    scratch = second.parent / ".disk-full"
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        prepare(ROOT, scratch, run, run.artifacts[manifest])
        folder = scratch / run.recorded / written
        # What lies in the folder already goes along, and leaves the room that is too small.
        folder.mkdir(parents=True, exist_ok=True)
        for item in run.artifacts[manifest].manifest["outputs"]:
            (scratch / item["path"]).unlink(missing_ok=True)
        kept = shutil.copytree(folder, disk.with_name("kept"))
        # Files take whole pages of 4 KB.
        size = (
            sum(-(-path.stat().st_size // 4096) * 4 for path in kept.rglob("*") if path.is_file())
            + kilobytes
        )
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", folder], check=True)
        try:
            shutil.copytree(kept, folder, dirs_exist_ok=True)
            (
                folder / ".keep"
            ).touch()  # Snakemake removes folders that are empty, and cannot remove this one
            target = f"{run.recorded}/{manifest}"
            command = [
                scratch / "bin/zagreus",
                target,
                "--configfile",
                CONFIG,
                "--allowed-rules",
                rule,
            ]
            failed = subprocess.run(command, cwd=scratch, capture_output=True, text=True)
            log = next((scratch / run.recorded / "logs" / rule).rglob("*.log")).read_text()
            said = [line for line in log.splitlines() if "error: " in line]
            full = [line for line in said if "no space left" in line or "free on this disk" in line]
            assert failed.returncode and full, log[-2000:] + failed.stderr[-1500:]
            assert not (scratch / target).exists(), "the manifest is under its final name"
            subprocess.run(["mount", "-o", "remount,size=2g", folder], check=True)
            done = subprocess.run(command, cwd=scratch, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr[-2000:]
            made = RunFolder(scratch / run.recorded).artifacts[manifest].manifest["outputs"]
            assert [item["sha256"] for item in made] == [
                item["sha256"] for item in run.artifacts[manifest].manifest["outputs"]
            ]
        finally:
            subprocess.run(["umount", folder], check=True)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
