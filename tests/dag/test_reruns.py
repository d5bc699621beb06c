"""What a change makes again, against reruns.json.

Every output of the published family exists, as an empty file, and one thing changes.

`python tests/dag/test_reruns.py` writes reruns.json anew. It holds the jobs of each change as
`{rule: {model or source: the rest}}`, all but the record of the run (provenance), which holds the
configuration itself.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parent))
from conftest import ROOT, SEEN, snakemake
from test_add_a_language import with_german

from zagreus.config.long_form import long_form, read_config

RERUNS = Path(__file__).with_name("reruns.json")
RESULTS = "results/zagreus"
# What the jobs of a change are read from a dry-run by.
JOB = re.compile(r"^(?:local)?rule (\S+):\n((?:    .*\n)*)", re.MULTILINE)


def _edit(folder: Path, file: str, old: str, new: str) -> None:
    text = (folder / file).read_text()
    assert old in text, f"{file}: no {old!r}"
    (folder / file).write_text(text.replace(old, new))


def _revision(folder: Path, config: dict[str, Any]) -> None:
    config["sources"]["fineweb2_ita"]["revision"] = "another"


def _decay(folder: Path, config: dict[str, Any]) -> None:
    _edit(folder, "recipes/pretrain/zagreus.yaml", "lr_decay_steps: 50000", "lr_decay_steps: 40000")


def _trainer(folder: Path, config: dict[str, Any]) -> None:
    """The trainer's meaning is declared to have changed."""
    source = (folder / "zagreus/recipe/read.py").read_text()
    (folder / "zagreus/recipe/read.py").write_text(
        re.sub(r"^TRAINER = (\d+)$", r"TRAINER = \g<1>1", source, flags=re.MULTILINE)
    )


def _task(folder: Path, config: dict[str, Any]) -> None:
    _edit(folder, "recipes/evaluate/m_mmlu.yaml", "\n", "\n# another task\n")


def _nodes(folder: Path, config: dict[str, Any]) -> None:
    config["cluster"] = {
        "nodes": 16,
        "ranks_per_node": 4,
        "posttrain_nodes": 2,
        "cpus_per_node": 32,
        "gpu": "h100",
        "max_minutes": 600,
    }


def _timed(folder: Path, config: dict[str, Any]) -> None:
    """Jobs were timed and a training has logged its speed, so that the next ones ask for another
    run time.
    """
    for name in (
        "tokenize/fineweb/00000",
        "evaluate/ita/95000/heldout",
        "posttrain/nesso-instruct/sft",
        "convert/ita/95000",
    ):
        file = folder / RESULTS / f"benchmarks/{name}.tsv"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("s\tmax_rss\n5000\t100\n")
    (folder / RESULTS / "pretrain/ita/running.jsonl").write_text(
        '{"ranks": 64, "tokens_per_second": 640000}\n'
    )


def _comments(folder: Path, config: dict[str, Any]) -> None:
    """A comment at the head of every rule file and at the foot of every script and module."""
    for file in (folder / "rules").glob("*.smk"):
        file.write_text(f"# A comment.\n{file.read_text()}")
    for file in [*(folder / "scripts").glob("*.py"), *(folder / "zagreus").rglob("*.py")]:
        file.write_text(f"{file.read_text()}\n# A comment.\n")


def _made_again(folder: Path, config: dict[str, Any]) -> None:
    """A checkpoint with the bytes that it had, made later than what follows from it."""
    (folder / RESULTS / "pretrain/ita/305000.json").write_bytes(
        (folder / RESULTS / "pretrain/ita/305000.json").read_bytes()
    )


def _checkpoint(folder: Path, config: dict[str, Any]) -> None:
    (folder / RESULTS / "pretrain/ita/305000.json").unlink()


def _model(folder: Path, config: dict[str, Any]) -> None:
    shutil.rmtree(folder / RESULTS / "models/ita/305000")


def _checkpoint_and_model(folder: Path, config: dict[str, Any]) -> None:
    _checkpoint(folder, config)
    _model(folder, config)


def _german(folder: Path, config: dict[str, Any]) -> None:
    """In the long form: a source, a model, the evaluations."""
    source = config["sources"]["fineweb2_ita"]
    config["sources"]["fineweb2_deu"] = source | {
        "language": "deu",
        "files": source["files"].replace("ita", "deu"),
    }
    mixture = {"fineweb": 0.4, "fineweb2_deu": 0.4, "starcoder": 0.2}
    pretrain = {
        "recipe": "recipes/pretrain/zagreus.yaml",
        "mixture": mixture,
        "checkpoints": [300000, 600000],
    }
    config["models"]["deu"] = {
        "title": "Zagreus 0.4B German",
        "languages": ["eng", "deu"],
        "pretrain": pretrain,
    }
    config["evaluation_data"]["heldout_deu"] = config["evaluation_data"]["heldout_ita"] | {
        "language": "deu",
        "sources": ["fineweb2_deu"],
    }
    config["evaluations"]["heldout"]["tasks"].append(
        {
            "name": "heldout_deu",
            "recipe": "recipes/evaluate/heldout.yaml",
            "data": "heldout_deu",
            "num_fewshot": 0,
        }
    )
    config["samples"]["prompts"]["deu"] = ["Die Geschichte Roms beginnt"]


def _german_entry(folder: Path, config: dict[str, Any]) -> None:
    """As docs/add_a_language.md says: one entry."""
    german = long_form(with_german("config.yaml"), "config.yaml")
    for source in ("fineweb2_deu", "finepdfs_deu"):
        config["sources"][source] = german["sources"][source] | {"tasks": 1}
    for section in ("models", "evaluation_data", "evaluations"):
        config[section] = german[section]


def _one_more(folder: Path, config: dict[str, Any]) -> None:
    config["models"]["fra"]["pretrain"]["checkpoints"].append(706000)


# Change: what is done, and what Snakemake is told besides.
Change = Callable[[Path, dict[str, Any]], None]
CHANGES: dict[str, tuple[Change, tuple[str, ...]]] = {
    "another revision of the Italian FineWeb-2": (_revision, ()),
    "another decay of the learning rate": (_decay, ()),
    "a trainer that means something else": (_trainer, ()),
    "another task file": (_task, ()),
    "other nodes, GPUs and partition": (
        _nodes,
        (
            "--default-resources",
            "slurm_partition=other",
            "gres='gpu:h100:4'",
            "--set-resources",
            "pretrain:ranks=4",
        ),
    ),
    "measured times and speeds": (_timed, ()),
    "a comment in every rule file, script and module": (_comments, ()),
    "a checkpoint in the middle was made again": (_made_again, ()),
    "a checkpoint in the middle is gone": (_checkpoint, ()),
    "a converted checkpoint in the middle is gone": (_model, ()),
    "a checkpoint in the middle is gone, converted too": (_checkpoint_and_model, ()),
    "a fifth language": (_german, ()),
    "a fifth language by one entry": (_german_entry, ()),
    "one more checkpoint": (_one_more, ()),
}


def _make(folder: Path) -> dict[str, Any]:
    """Make a working directory where all of config.yaml is there, with a task or two of each
    source; return its configuration.
    """
    for name in (*SEEN, "rules"):
        if (ROOT / name).is_dir():
            shutil.copytree(
                ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__")
            )
        else:
            shutil.copy(ROOT / name, folder / name)
    config = read_config(ROOT / "config.yaml")
    config["software"] = "venv"  # --touch is a run, which with images would ask for Apptainer
    for name, source in config["sources"].items():
        source["tasks"] = 2 if name == "fineweb2_ita" else 1
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    listed = snakemake(
        "--configfile",
        "config.yaml",
        "--summary",
        "all",
        folder=folder,
        snakefile=folder / "Snakefile",
    )
    assert listed.returncode == 0, listed.stderr
    for line in listed.stdout.splitlines()[1:]:
        output = folder / line.split("\t")[0]
        output.parent.mkdir(parents=True, exist_ok=True)
        if output.name == "figures":
            output.mkdir()
        else:
            output.touch()
    # --forceall: without it only jobs that look out of date are touched, and the others leave no
    # record of their parameters.
    told = ("--touch", "--forceall", "--cores", "64")
    touched = snakemake(
        "--configfile", "config.yaml", *told, "all", folder=folder, snakefile=folder / "Snakefile"
    )
    assert touched.returncode == 0, touched.stderr
    return config


def _jobs(folder: Path, config: dict[str, Any], *arguments: str) -> dict[str, dict[str, str]]:
    """Return what a dry-run would run, but for provenance; the dry-run gives reasons."""
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    done = snakemake(
        "all",
        "--dry-run",
        "--configfile",
        "config.yaml",
        *arguments,
        folder=folder,
        snakefile=folder / "Snakefile",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    jobs: dict[str, dict[str, list[str]]] = {}
    for rule, body in JOB.findall(done.stdout):
        assert re.search(r"^    reason: \S", body, re.MULTILINE), f"{rule}: no reason\n{body}"
        if rule not in ("provenance", "all"):
            named = re.search(r"^    wildcards: (.*)$", body, re.MULTILINE)
            first, *rest = re.findall(r"\w+=([^,]+)", named[1]) if named else [""]
            jobs.setdefault(rule, {}).setdefault(first, []).append("/".join(rest))
    return {
        rule: {
            first: " ".join(sorted(rest, key=_numbers))
            for first, rest in sorted(jobs[rule].items())
        }
        for rule in sorted(jobs)
    }


def _numbers(text: str) -> list[tuple[int, str]]:
    """Return a key that sorts steps by their number."""
    return [(int(part), "") if part.isdecimal() else (0, part) for part in text.split("/")]


def _changed(
    complete: Path, config: dict[str, Any], name: str, folder: Path
) -> dict[str, dict[str, str]]:
    """Return the jobs that a change makes necessary, in a copy of the complete folder."""
    shutil.copytree(complete, folder, symlinks=True)
    edited = json.loads(json.dumps(config))
    edit, arguments = CHANGES[name]
    edit(folder, edited)
    return _jobs(folder, edited, *arguments)


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("complete")
    return folder, _make(folder)


@pytest.fixture
def changed(
    complete: tuple[Path, dict[str, Any]], tmp_path: Path
) -> Iterator[Callable[[str], dict[str, dict[str, str]]]]:
    yield lambda name: _changed(*complete, name, tmp_path / "changed")
    shutil.rmtree(tmp_path / "changed", ignore_errors=True)


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_makes_again_what_it_concerns(
    name: str, changed: Callable[[str], dict[str, dict[str, str]]]
) -> None:
    assert changed(name) == json.loads(RERUNS.read_text())[name]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        complete_folder = Path(scratch) / "complete"
        complete_folder.mkdir()
        whole = _make(complete_folder)
        reruns = {
            name: _changed(complete_folder, whole, name, Path(scratch) / str(i))
            for i, name in enumerate(CHANGES)
        }
    RERUNS.write_text(json.dumps(reruns, indent=1) + "\n")
