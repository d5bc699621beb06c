r"""Post-train a model: one stage from one checkpoint.

Axolotl makes SFT and DPO, TRL's own trainer makes a distillation (`distill`).

The program resumes where an earlier run was stopped. On a signal (SIGTERM, SIGINT, SIGUSR2) it
saves a checkpoint and exits with 143.

python scripts/posttrain.py --recipe recipes/posttrain/demo_sft.yaml \
    --base results/demo/models/ita/240/manifest.json \
    --data results/demo/chat/instruct.json --model nesso-instruct --stage sft \
    --title "Nesso demo, instruct" --languages eng ita \
    --work results/demo/posttrain/nesso-instruct/sft \
    results/demo/models/nesso-instruct/sft/manifest.json
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import shutil
from pathlib import Path
from typing import Any

import yaml

from zagreus.atomic import atomic_file
from zagreus.errors import InputError, run
from zagreus.launch.gpus import claim_gpus
from zagreus.launch.ranks import Geometry, add_geometry
from zagreus.lock import require_locks
from zagreus.manifest import read_manifest, sha256_file
from zagreus.posttraining.checkpoints import drop_torn_data, set_torn_aside
from zagreus.posttraining.data import check_stage, select_rows, select_turns
from zagreus.posttraining.distillation.stage import Distillation, distill
from zagreus.posttraining.environment import prepare
from zagreus.posttraining.export import export_model, turn_tokens
from zagreus.posttraining.recipe import (
    check_recipe,
    fill_in,
    for_this_image,
    load_recipe,
    processes_of,
    share_batch,
)
from zagreus.posttraining.result import write_result
from zagreus.posttraining.sets import combined, mix_lines, mix_rows
from zagreus.posttraining.stop import STOP
from zagreus.posttraining.templates import ChatTemplate
from zagreus.posttraining.training import log_lines, read_report, train
from zagreus.posttraining.working import digest, working_folder

PACKAGES = ("axolotl", "torch", "transformers", "trl", "accelerate", "datasets")


def main() -> None:
    """Parse the arguments, check what can be checked, train, and write the model folder."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--recipe", required=True, type=Path, help="recipe in Axolotl's schema, or in TRL's"
    )
    parser.add_argument(
        "--base", required=True, type=Path, help="manifest of the model to start from"
    )
    parser.add_argument(
        "--data", required=True, type=Path, nargs="+", help="manifests of the chat data sets"
    )
    parser.add_argument(
        "--mix", type=json.loads, help="JSON list of {set, weight or repeat, where}: what is taken"
    )
    parser.add_argument("--template", type=Path, help="Jinja file of the chat template")
    parser.add_argument(
        "--turn-tokens",
        nargs="+",
        help="with --template: the special token that ends a turn, then others that it needs",
    )
    parser.add_argument(
        "--teacher", type=Path, help="distill: manifest of the model whose answers are learned"
    )
    parser.add_argument(
        "--teacher-correct",
        action="store_true",
        help="distill: only prompts whose reference answer the teacher gives",
    )
    parser.add_argument("--model", required=True, help="name of the model that is made")
    parser.add_argument(
        "--stage", required=True, choices=("sft", "dpo", "distill"), help="what the recipe does"
    )
    parser.add_argument("--title", required=True, help="title of the model, for its card")
    parser.add_argument(
        "--languages", required=True, nargs="+", help="languages of the model, ISO 639-3"
    )
    parser.add_argument(
        "--work",
        required=True,
        type=Path,
        help="working folder: rendered recipe, prepared data, checkpoints, log",
    )
    parser.add_argument(
        "--ranks",
        type=int,
        default=1,
        help="processes that train together on this node; more than one needs as many GPUs",
    )
    parser.add_argument(
        "--batch-ranks",
        type=int,
        default=1,
        help="processes that the recipe's accumulation is meant for (default 1)",
    )
    add_geometry(parser)
    parser.add_argument("output", type=Path, help="manifest.json in the model folder that is made")
    arguments = parser.parse_args()

    STOP.listen()
    template = None
    if arguments.template:
        stop, *markers = arguments.turn_tokens
        template = ChatTemplate(arguments.template, stop, tuple(markers))
    if arguments.stage == "distill":
        distill(distillation(arguments, template))
    else:
        train_with_axolotl(arguments, template)


def distillation(arguments: argparse.Namespace, template: ChatTemplate | None) -> Distillation:
    """Return what the arguments say of a distillation.

    Raises:
        InputError: there is no teacher.
    """
    if arguments.teacher is None:
        raise InputError("--stage distill: no --teacher, expected the manifest of a model")
    return Distillation(
        recipe=arguments.recipe,
        base=arguments.base,
        teacher=arguments.teacher,
        data=arguments.data,
        mix=arguments.mix,
        template=template,
        teacher_correct=arguments.teacher_correct,
        model=arguments.model,
        title=arguments.title,
        languages=arguments.languages,
        work=arguments.work,
        ranks=arguments.ranks,
        batch_ranks=arguments.batch_ranks,
        geometry=Geometry.of(arguments),
        output=arguments.output,
    )


def train_with_axolotl(arguments: argparse.Namespace, template: ChatTemplate | None) -> None:
    """Run an SFT or DPO stage, and write the model folder."""
    base = read_manifest(arguments.base, kind="model")
    sets = {file.stem: read_manifest(file, kind="chat") for file in arguments.data}
    data = sets[arguments.data[0].stem]
    if len(sets) > 1:
        data = combined(list(sets.values()))
    rows = arguments.data[0].with_suffix(".jsonl")
    files = {file.stem: file.with_suffix(".jsonl") for file in arguments.data}
    geometry = Geometry.of(arguments)
    processes = arguments.ranks * geometry.nodes
    where = str(arguments.recipe)
    published = load_recipe(arguments.recipe)
    possible = processes_of(published, arguments.batch_ranks)
    recipe = share_batch(published, arguments.batch_ranks, processes, where)
    recipe, notes = for_this_image(recipe, where)
    sharded = bool(recipe.get("fsdp_config") or recipe.get("fsdp"))
    for file in arguments.data:
        form = sets[file.stem]["form"]
        if form != arguments.stage:
            raise InputError(
                f"{file}: rows for {form}, stage '{arguments.stage}' needs rows for "
                f"{arguments.stage}"
            )
    check_stage(arguments.stage, recipe)
    if not template:
        turn_tokens(arguments.base.parent)

    identity = {
        "recipe": sha256_file(arguments.recipe),
        "base": sha256_file(arguments.base),
        "data": sha256_file(rows),
        "batch_ranks": arguments.batch_ranks,
        "versions": {package: importlib.metadata.version(package) for package in PACKAGES},
    }
    # These stand in the identity only where they are set: earlier trainings keep theirs.
    if arguments.mix:
        identity["data"] = {name: sha256_file(file) for name, file in files.items()}
        identity["mix"] = arguments.mix
    if template:
        identity["template"] = [sha256_file(template.file), *arguments.turn_tokens]
    first = geometry.node == 0  # its fellows only train: what all share is made by one
    if first:
        folder, moved = working_folder(arguments.work, identity, possible)
        notes += moved
    else:
        folder = arguments.work / digest(identity)
    selected = folder / "rows.jsonl" if first else None
    mixed: list[dict[str, Any]] = []
    if arguments.mix:
        rows = folder / "mixed.jsonl"
        if first:
            mixed = mix_rows(files, arguments.mix, rows)
            for line in mix_lines(mixed):
                print(f"note: {line}")
    if not first:
        selection = None  # the first node has made what all read
    elif template:
        entry = data.get("entry", {})
        selection = select_turns(
            arguments.stage, rows, entry, recipe, arguments.base.parent, template, selected
        )
    else:
        selection = select_rows(
            rows, data.get("entry", {}), arguments.stage, recipe, arguments.base.parent, selected
        )
    if selection and selection.note:
        print(f"note: {selection.note}")
    # Packing a small set takes less time in plain Python than compiling the packer does, and gives
    # the same packs. Nor is a small set worth the import of torch's compiler, which bitsandbytes
    # (by way of peft) takes along: 3.6 s.
    small = {}
    if data["rows"] < 20_000:
        small = {"NUMBA_DISABLE_JIT": "1"} | (
            {} if recipe.get("torch_compile") else {"TORCHDYNAMO_DISABLE": "1"}
        )
    prepare(folder / "cache", small)
    require_locks(folder)  # Axolotl and `datasets` lock files in it

    claim_gpus(arguments.ranks)
    rendered = arguments.work / "axolotl.yaml"
    if selection is None:
        train(rendered, arguments.ranks, geometry, sharded)
        return
    filled = fill_in(recipe, arguments.base.parent, selection.path, folder, template)
    notes += check_recipe(filled, str(arguments.recipe))
    for note in notes:
        print(f"note: {arguments.recipe}: {note}")
    for line in set_torn_aside(folder / "checkpoints"):
        print(f"note: {line}")
    drop_torn_data(folder / "prepared")
    with atomic_file(rendered, settled=True) as partial:
        partial.write_text(
            yaml.safe_dump(filled, allow_unicode=True, sort_keys=False, width=140), encoding="utf-8"
        )

    train(rendered, arguments.ranks, geometry, sharded)

    report = read_report(folder / "checkpoints", processes)
    plan = {
        "model": arguments.model,
        "stage": arguments.stage,
        "base": base["name"],
        "rows": selection.kept,
        "steps": report["steps"],
    }
    lines = log_lines(report, plan)
    losses = [line["loss"] for line in lines if "loss" in line]
    if not losses:
        problem = f"{selection.kept - selection.validation:,} rows made no step of training"
        raise InputError(f"{rows}: {problem}, expected more rows or a smaller micro_batch_size")
    facts = {
        "model": arguments.model,
        "checkpoint": arguments.stage,
        "stage": arguments.stage,
        "title": arguments.title,
        "languages": arguments.languages,
        "base": base["name"],
        "recipe": str(arguments.recipe),
        "seed": recipe.get("seed"),
        "steps": report["steps"],
        "loss_first": losses[0],
        "loss_last": losses[-1],
        "notes": notes,
        **selection.facts(),
        **({"mix": mixed} if mixed else {}),
        **({"template": str(template.file), "stop": template.stop} if template else {}),
    }
    write_result(
        arguments.output,
        facts,
        data,
        lambda partial: export_model(
            folder / "checkpoints", arguments.base.parent, partial, template, recipe
        ),
        log=arguments.work / "log.jsonl",
        lines=lines,
        report=report,
        inputs=[
            arguments.base,
            *arguments.data,
            arguments.recipe,
            *([template.file] if template else []),
        ],
        packages=PACKAGES,
    )
    shutil.rmtree(folder)


if __name__ == "__main__":
    run(main)
