"""The stage `distill`: prompts, what the teacher answers right, training, divergence before and
after.
"""

from __future__ import annotations

import importlib.metadata
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

from zagreus.atomic import atomic_file
from zagreus.errors import InputError
from zagreus.launch.gpus import claim_gpus
from zagreus.launch.ranks import Geometry
from zagreus.lock import require_locks
from zagreus.manifest import read_manifest, sha256_file
from zagreus.posttraining.capabilities import has_gpu
from zagreus.posttraining.chatml import TEMPLATE
from zagreus.posttraining.checkpoints import set_torn_aside
from zagreus.posttraining.distillation.divergence import Divergence, measure
from zagreus.posttraining.distillation.prompts import (
    Prompt,
    Prompts,
    check_batch,
    read_prompts,
    write_prompts,
)
from zagreus.posttraining.distillation.recipe_file import load_distillation
from zagreus.posttraining.distillation.teacher import (
    answers_right,
    check_tokenizer,
    template_note,
)
from zagreus.posttraining.distillation.trainer import load_model, run_job, sampling
from zagreus.posttraining.environment import prepare
from zagreus.posttraining.export import export_model
from zagreus.posttraining.recipe_file import processes_of, share_batch
from zagreus.posttraining.result import write_result
from zagreus.posttraining.sets import combined, mix_lines, mix_rows
from zagreus.posttraining.templates import DEFAULT, ChatTemplate, named_template
from zagreus.posttraining.training import log_lines, read_report, train
from zagreus.posttraining.turns import special_ids
from zagreus.posttraining.working import digest, working_folder

PACKAGES = ("torch", "transformers", "trl", "accelerate")
HELDOUT_PROMPTS = 256  # the first held-out prompts; a mean over some thousand tokens
Result = TypeVar("Result")
MODULE = "zagreus.posttraining.distillation.trainer"


@dataclass(frozen=True)
class Distillation:
    """What a distillation is made of."""

    recipe: Path
    """Recipe: keys of TRL's DistillationConfig."""
    base: Path
    """Manifest of the student's model folder."""
    teacher: Path
    """Manifest of the teacher's model folder."""
    data: Sequence[Path]
    """Manifests of the chat data sets."""
    mix: Sequence[Mapping[str, Any]] | None
    """`{set, weight or repeat, where}`; None takes the one data set whole."""
    template: ChatTemplate | None
    """The chat template; None for ChatML."""
    teacher_correct: bool
    """Whether only prompts stay whose reference answer the teacher gives."""
    model: str
    """Name of the model that is made."""
    title: str
    """Title of the model, for its card."""
    languages: Sequence[str]
    """Languages of the model: ISO 639-3."""
    work: Path
    """Working folder of the stage."""
    ranks: int
    """Processes that train on a node."""
    batch_ranks: int
    """Processes that the recipe's accumulation is meant for."""
    geometry: Geometry
    """The nodes."""
    output: Path
    """Manifest of the model folder that is made."""


def distill(job: Distillation) -> None:
    """Run the stage, and write the model folder with its manifest.

    Raises:
        InputError: the inputs do not fit; said before anything is trained.
    """
    teacher = read_manifest(job.teacher, kind="model")
    base = read_manifest(job.base, kind="model")
    sets = {file.stem: read_manifest(file, kind="chat") for file in job.data}
    data = combined(list(sets.values())) if len(sets) > 1 else sets[job.data[0].stem]
    for file in job.data:
        if sets[file.stem]["form"] != "sft":
            problem = f"rows for {sets[file.stem]['form']}"
            raise InputError(f"{file}: {problem}, stage 'distill' needs rows for sft")
    if job.teacher.resolve() == job.base.resolve():
        raise InputError(f"{job.teacher}: the teacher is the student; expected another model")
    check_tokenizer(job.base.parent, job.teacher.parent)
    chat = job.template or named_template(DEFAULT)
    text = job.template.file.read_text(encoding="utf-8") if job.template else TEMPLATE
    stop = special_ids(job.base.parent, (chat.stop, *chat.markers))[chat.stop]

    processes = job.ranks * job.geometry.nodes
    published = load_distillation(job.recipe)
    recipe = share_batch(published, job.batch_ranks, processes, str(job.recipe))
    notes = []
    if recipe.get("bf16") and not has_gpu():
        recipe["bf16"] = False
        notes.append("bf16: left out, there is no GPU; the student and the teacher are fp32")
    if note := template_note(job.teacher.parent, text):
        notes.append(note)

    identity = _identity(job)
    first = job.geometry.node == 0  # its fellows only train: what all share is made by one
    folder = job.work / digest(identity)
    if first:
        possible = processes_of(published, job.batch_ranks)
        folder, moved = working_folder(job.work, identity, possible)
        notes += moved
    prepare(folder / "cache", {"TORCHDYNAMO_DISABLE": "1"})
    require_locks(folder)
    rendered = job.work / "distill.json"
    if not first:
        claim_gpus(job.ranks)
        train(rendered, job.ranks, job.geometry, module=MODULE, alone=run_job)
        return

    rows, mixed = _mixed(job, folder / "mixed.jsonl", ".jsonl")
    for line in mix_lines(mixed):
        print(f"note: {line}")
    prompts = read_prompts(rows, data.get("entry", {}), recipe, job.base.parent, chat)
    heldout = _heldout(job, folder, data, recipe, chat)
    for note in notes:
        print(f"note: {job.recipe}: {note}")
    claim_gpus(job.ranks)
    kept = _right_ones(job, prompts, recipe, stop) if job.teacher_correct else prompts.kept
    batch = published["per_device_train_batch_size"]
    check_batch(
        kept,
        batch * published.get("gradient_accumulation_steps", 1) * job.batch_ranks,
        str(rows),
    )
    write_prompts(kept, folder / "prompts.jsonl")
    before = _measured(job, job.base.parent, heldout, recipe, stop)
    for line in set_torn_aside(folder / "checkpoints"):
        print(f"note: {line}")
    with atomic_file(rendered, settled=True) as partial:
        task = {
            "base": str(job.base.parent),
            "teacher": str(job.teacher.parent),
            "prompts": str(folder / "prompts.jsonl"),
            "output": str(folder / "checkpoints"),
            "recipe": recipe,
            "template": text,
            "stop": chat.stop,
        }
        partial.write_text(json.dumps(task, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    train(rendered, job.ranks, job.geometry, module=MODULE, alone=run_job)

    after = _measured(job, folder / "checkpoints", heldout, recipe, stop)
    report = read_report(folder / "checkpoints", processes)
    plan = {"model": job.model, "stage": "distill", "base": base["name"]}
    plan |= {"teacher": teacher["name"], "rows": len(kept), "steps": report["steps"]}
    lines = log_lines(report, plan)
    losses = [line["loss"] for line in lines if "loss" in line]
    facts = {
        "model": job.model,
        "checkpoint": "distill",
        "stage": "distill",
        "title": job.title,
        "languages": list(job.languages),
        "base": base["name"],
        "teacher": teacher["name"],
        "recipe": str(job.recipe),
        "seed": recipe["seed"],
        "steps": report["steps"],
        "loss_first": losses[0],
        "loss_last": losses[-1],
        "notes": notes,
        "rows_given": prompts.row_count,
        "rows": len(kept),
        "rows_validation": 0,
        "rows_lost": prompts.losses.by_reason(),
        **_correct_facts(job, prompts, kept),
        **_divergence_facts(before, after, len(heldout)),
        **({"mix": mixed} if mixed else {}),
        **({"template": str(chat.file), "stop": chat.stop} if job.template else {}),
    }
    write_result(
        job.output,
        facts,
        data,
        lambda partial: export_model(
            folder / "checkpoints", job.base.parent, partial, job.template
        ),
        log=job.work / "log.jsonl",
        lines=lines,
        report=report,
        inputs=[
            job.base,
            job.teacher,
            *job.data,
            job.recipe,
            *([job.template.file] if job.template else []),
        ],
        packages=PACKAGES,
    )
    shutil.rmtree(folder)


def _identity(job: Distillation) -> dict[str, Any]:
    """Return what decides the weights."""
    return {
        "recipe": sha256_file(job.recipe),
        "base": sha256_file(job.base),
        "teacher": sha256_file(job.teacher),
        "teacher_correct": job.teacher_correct,
        "data": {file.stem: sha256_file(file.with_suffix(".jsonl")) for file in job.data},
        "mix": job.mix,
        "template": [sha256_file(job.template.file), job.template.stop] if job.template else None,
        "batch_ranks": job.batch_ranks,
        "versions": {package: importlib.metadata.version(package) for package in PACKAGES},
    }


def _mixed(job: Distillation, mixed: Path, suffix: str) -> tuple[Path, list[dict[str, Any]]]:
    """Return the file of the rows, and the counts of each set where there are several."""
    files = {file.stem: file.with_suffix(suffix) for file in job.data}
    if job.mix is None:
        return files[job.data[0].stem], []
    return mixed, mix_rows(files, job.mix, mixed)


def _heldout(
    job: Distillation,
    folder: Path,
    data: Mapping[str, Any],
    recipe: Mapping[str, Any],
    chat: ChatTemplate,
) -> list[Prompt]:
    """Return the held-out prompts, each once; the stage's filters hold for them too."""
    files = {file.stem: file.with_suffix(".heldout.jsonl") for file in job.data}
    rows = files[job.data[0].stem]
    if job.mix is not None:
        rows = folder / "heldout.jsonl"
        once = [
            {key: value for key, value in entry.items() if key in ("set", "where")}
            for entry in job.mix
            if _filled(files[entry["set"]])
        ]
        mix_rows(files, once, rows)
    if not _filled(rows):
        print(f"note: {rows}: no held-out rows; the divergence from the teacher is not measured")
        return []
    # Rows that do not fit are left out here without a limit: nobody trains on them.
    entry = {**data.get("entry", {}), "on_special": "drop", "max_lost_rows": 1.0}
    prompts = read_prompts(rows, entry, recipe, job.base.parent, chat)
    return prompts.kept[:HELDOUT_PROMPTS]


def _filled(file: Path) -> bool:
    return file.exists() and file.stat().st_size > 0


def _apart(function: Callable[..., Result], *arguments: Any) -> Result:
    """Return what a function returns; where there are GPUs, from a process that ends with it.

    This process may only launch the ranks: its own CUDA context would keep memory from them.
    """
    if not has_gpu():
        return function(*arguments)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def _right_ones(
    job: Distillation, prompts: Prompts, recipe: Mapping[str, Any], stop: int
) -> list[Prompt]:
    """Return the prompts whose reference answer the teacher gives."""
    right = _apart(_judged, job.teacher.parent, prompts.kept, recipe, stop)
    kept = [prompt for prompt, correct in zip(prompts.kept, right, strict=True) if correct]
    print(
        f"note: teacher_correct: the teacher answers {len(kept):,} of {len(prompts.kept):,} "
        f"prompts right; {len(prompts.kept) - len(kept):,} left out"
    )
    return kept


def _judged(
    teacher: Path, prompts: Sequence[Prompt], recipe: Mapping[str, Any], stop: int
) -> list[bool]:
    """Return for each prompt whether the teacher of a folder answers it right."""
    model = load_model(teacher, recipe.get("bf16", False))
    return answers_right(model, prompts, recipe["per_device_train_batch_size"], stop)


def _correct_facts(job: Distillation, prompts: Prompts, kept: Sequence[Prompt]) -> dict[str, Any]:
    """Return the counts of `teacher_correct` for the manifest, where it is set."""
    if not job.teacher_correct:
        return {}
    return {"teacher_correct": {"kept": len(kept), "dropped": len(prompts.kept) - len(kept)}}


def _measured(
    job: Distillation,
    student: Path,
    heldout: Sequence[Prompt],
    recipe: Mapping[str, Any],
    stop: int,
) -> Divergence | None:
    """Return the student's divergence from the teacher on the held-out prompts."""
    if not heldout:
        return None
    result = _apart(_distance, student, job.teacher.parent, heldout, recipe, stop)
    print(
        f"note: KL(student || teacher) on {len(heldout):,} held-out prompts: {result.kl:.4f} nats "
        f"a token, {result.tokens:,} tokens"
    )
    return result


def _distance(
    student: Path, teacher: Path, heldout: Sequence[Prompt], recipe: Mapping[str, Any], stop: int
) -> Divergence:
    """Return the divergence between the models of two folders."""
    bf16, batch = recipe.get("bf16", False), recipe["per_device_train_batch_size"]
    learner, judge = load_model(student, bf16), load_model(teacher, bf16)
    return measure(learner, judge, heldout, sampling(recipe, stop), batch, recipe["seed"])


def _divergence_facts(
    before: Divergence | None, after: Divergence | None, prompts: int
) -> dict[str, Any]:
    """Return the divergence before and after for the manifest."""
    if before is None or after is None:
        return {}
    return {
        "heldout_kl": {
            "before": before.kl,
            "after": after.kl,
            "prompts": prompts,
            "tokens_before": before.tokens,
            "tokens_after": after.tokens,
        }
    }
