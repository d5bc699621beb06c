"""What a stage leaves: its log, the model folder with its card, the manifest."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from zagreus.atomic import atomic_file, atomic_folder
from zagreus.manifest import write_manifest
from zagreus.posttraining.export import model_card


def write_result(
    output: Path,
    facts: Mapping[str, Any],
    data: Mapping[str, Any],
    export: Callable[[Path], Mapping[str, Any]],
    *,
    log: Path,
    lines: Iterable[Mapping[str, Any]],
    report: Mapping[str, Any],
    inputs: Iterable[Path],
    packages: Iterable[str],
) -> None:
    """Write the log, the model folder and its manifest.

    Args:
        output: the manifest; its folder becomes the model folder.
        facts: of the stage, for card and manifest.
        data: the data set's manifest, for the card.
        export: writes the model into a folder, and returns further facts.
        log: where the log goes.
        lines: of the log, one a step.
        report: `tokens` and `seconds` of the training.
        inputs: files that the model was made from.
        packages: distributions whose versions matter.
    """
    with atomic_file(log) as partial:
        partial.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    model = output.parent
    with atomic_folder(model) as partial:
        whole = {**facts, **export(partial)}
        (partial / "README.md").write_text(model_card({**whole, "data": data}), encoding="utf-8")
    write_manifest(
        output,
        kind="model",
        name=f"{whole['model']}/{whole['stage']}",
        inputs=inputs,
        outputs=[*(file for file in sorted(model.iterdir()) if file.is_file()), log],
        packages=packages,
        circumstances={"train_tokens": report["tokens"], "train_seconds": report["seconds"]},
        **whole,
    )
