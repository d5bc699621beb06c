"""An artifact made again from what it was made from, beside the run, and compared with the run's
own.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from zagreus.errors import InputError
from zagreus.proof.compare import content
from zagreus.proof.run_folder import NOT_ARTIFACTS, Artifact, RunFolder

# What a job reads of the repository, and what of it a sample is drawn from.
CODE = ["Snakefile", "bin", "config", "containers", "envs", "profiles", "recipes", "reference"]
CODE += ["rules", "scripts", "zagreus", "config.yaml", "CITATION.cff", "pyproject.toml"]
SAMPLED_KINDS = ("tokens", "checkpoint", "model", "scores", "export")
# Losses of a step that differ by less are those of another order of additions, not of another
# training: two instruction sets differ by some 1e-5 after a hundred steps in fp32.
LOSS_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Audited:
    """What came out of making an artifact again.

    Attributes:
        title: kind and name of the artifact.
        differing: its files that came out as other bytes; empty where all are equal.
        files: number of its files.
        processors: the processor of the run and of this machine, where both are known.
        largest_loss_difference: of all steps, for a training whose bytes differ.
    """

    title: str
    differing: list[str]
    files: int
    processors: tuple[str | None, str | None]
    largest_loss_difference: float | None

    @property
    def holds(self) -> bool:
        """Whether the bytes are equal, or the losses are within the tolerance on another CPU."""
        if not self.differing:
            return True
        other_machine = self.processors[0] != self.processors[1]
        difference = self.largest_loss_difference
        return other_machine and difference is not None and difference <= LOSS_TOLERANCE


def choose(run: RunFolder, count: int, seed: int) -> list[Artifact]:
    """Return `count` artifacts of a run at random, of kinds that a machine can make again."""
    able = [item for item in run.artifacts.values() if _can_be_made_again(item)]
    return random.Random(seed).sample(able, min(count, len(able)))


def checkpoint_of(run: RunFolder, model: str, checkpoint: str) -> Artifact:
    """Return a checkpoint of a base model, or the model of a post-training stage.

    Raises:
        InputError: the run has no such checkpoint.
    """
    for path in (
        f"pretrain/{model}/{checkpoint}.json",
        f"models/{model}/{checkpoint}/manifest.json",
    ):
        if path in run.artifacts:
            return run.artifacts[path]
    steps = [
        item.path.removeprefix(f"pretrain/{model}/").removesuffix(".json")
        for item in run.artifacts.values()
        if item.path.startswith(f"pretrain/{model}/")
    ]
    raise InputError(
        f"{run.root}: no checkpoint '{checkpoint}' of a model '{model}'"
        + (f", expected one of {', '.join(sorted(steps, key=len))}" if steps else "")
    )


def audit(root: Path, run: RunFolder, artifact: Artifact, arguments: Sequence[str]) -> Audited:
    """Make an artifact again and compare.

    The job runs in a folder of its own, with links to the files of the run: nothing of the run is
    written to. The folder goes afterwards.

    Args:
        root: the repository, which is the working folder.
        run: the run; its folder lies where it was made.
        artifact: one of the run's.
        arguments: for Snakemake (`--configfile`, `--profile`).

    Raises:
        InputError: the run lies elsewhere than where it was made, or the job failed.
    """
    if run.root.resolve() != (root / run.recorded).resolve():
        raise InputError(
            f"{run.root}: was made as {run.recorded}; audit a run in the repository that made it"
        )
    # Beside the run: links need the same file system.
    scratch = run.root.resolve().parent / f".audit-{run.root.name}"
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        prepare(root, scratch, run, artifact)
        made = scratch / run.recorded / artifact.path
        target = f"{run.recorded}/{artifact.path}"
        environment = {key: value for key, value in os.environ.items() if key != "ZAGREUS_CLAIMED"}
        command = [sys.executable, "bin/zagreus", target, *arguments]
        done = subprocess.run(command, cwd=scratch, env=environment, stdout=sys.stderr)
        if done.returncode or not made.is_file():
            raise InputError(f"{artifact.title}: could not be made again; the reason stands above")
        again = RunFolder(scratch / run.recorded)
        return _compared(run, artifact, again)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _can_be_made_again(artifact: Artifact) -> bool:
    kind, manifest = artifact.manifest["kind"], artifact.manifest
    return kind in SAMPLED_KINDS and "adopted" not in manifest and bool(manifest["inputs"])


def prepare(root: Path, scratch: Path, run: RunFolder, artifact: Artifact) -> None:
    """Make a folder like the repository, with all of the run but one artifact.

    Args:
        root: the repository.
        scratch: the folder, which must not be there; on the file system of the run.
        run: the run.
        artifact: the one that is left out.
    """
    scratch.mkdir(parents=True)
    for name in CODE:
        source = root / name
        if source.is_dir():
            shutil.copytree(source, scratch / name, symlinks=True)
        elif source.exists():
            shutil.copy2(source, scratch / name)
    if (root / "slurm").is_symlink():
        (scratch / "slurm").symlink_to(os.readlink(root / "slurm"))
    (scratch / ".tools").symlink_to((root / ".tools").resolve())
    for folder in ("packages", "images", "wheels"):
        _link_tree(root / "resources" / folder, scratch / "resources" / folder)
    if (root / "resources/venvs").is_dir():
        (scratch / "resources/venvs").symlink_to((root / "resources/venvs").resolve())
    own = _own_files(artifact)
    for path in run.files:
        if path.split("/")[0] in (*NOT_ARTIFACTS, "posttrain") or path.startswith(own):
            continue
        source, target = run.root / path, scratch / run.recorded / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_symlink():
            target.symlink_to(source.resolve())
        else:
            os.link(source, target)


def _own_files(artifact: Artifact) -> tuple[str, ...]:
    """Return how the paths of an artifact's files begin, below the run's folder."""
    folder, _, name = artifact.path.rpartition("/")
    stem = name.removesuffix(".json")
    match artifact.manifest["kind"]:
        case "model":
            return (f"{folder}/",)
        case "checkpoint":
            kept_recipe = (f"{folder}/{stem}.json", f"{folder}/{stem}.run.json")
            logs = (f"{folder}/{stem}.jsonl", f"{folder}/tensorboard/{stem}/")
            return (*kept_recipe, *logs, f"{folder}/checkpoints/{stem}/")
        case _:
            return (f"{folder}/{stem}.", f"{folder}/{stem}_")


def _link_tree(source: Path, target: Path) -> None:
    """Link the files of a folder, or name the folder where its file system is another."""
    if not source.is_dir():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        shutil.copytree(source.resolve(), target, copy_function=os.link, symlinks=True)
    except (shutil.Error, OSError):
        shutil.rmtree(target, ignore_errors=True)
        target.symlink_to(source.resolve())


def _compared(run: RunFolder, artifact: Artifact, again: RunFolder) -> Audited:
    made = again.artifacts[artifact.path]
    left, right = content(run, artifact), content(again, made)
    differing = sorted(name for name in {*left, *right} if left.get(name) != right.get(name))
    loss = _loss_difference(run, again, artifact) if differing else None
    processors = (artifact.run_metadata.get("cpu"), made.run_metadata.get("cpu"))
    return Audited(artifact.title, differing, len(left), processors, loss)


def _loss_difference(run: RunFolder, again: RunFolder, artifact: Artifact) -> float | None:
    """Return the largest difference of the losses of a step; None for what has no log."""
    log = artifact.path.removesuffix(".json") + ".jsonl"
    if not (run.root / log).is_file() or not (again.root / log).is_file():
        return None
    losses = [_losses(folder.root / log) for folder in (run, again)]
    if losses[0].keys() != losses[1].keys() or not losses[0]:
        return None
    return max(abs(losses[0][step] - losses[1][step]) for step in losses[0])


def _losses(log: Path) -> dict[int, float]:
    entries = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    return {entry["step"]: entry["loss"] for entry in entries if "loss" in entry}
