"""Write a model in the format of another runtime, and prove there that it is the same model.

python scripts/export.py --model results/demo/models/nesso-instruct/dpo/manifest.json \
    --reference results/demo/exports/nesso-instruct/dpo/reference/manifest.json --format q8_0 \
    --output results/demo/exports/nesso-instruct/dpo/q8_0/manifest.json
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

# Threads that wait give their core away: llama.cpp's library reads this as it is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from zagreus.atomic import atomic_folder
from zagreus.errors import InputError, run
from zagreus.export.formats import FORMATS, file_name, format_of, limits_of
from zagreus.manifest import read_manifest, write_manifest


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True, type=Path, help="manifest of the model folder")
    parser.add_argument("--reference", required=True, type=Path, help="manifest of the reference")
    parser.add_argument("--format", required=True, choices=list(FORMATS), help="the format")
    parser.add_argument(
        "--limits",
        type=json.loads,
        default={},
        help="JSON: {logits, bits_per_byte, greedy}, how far the export may be from the model",
    )
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument(
        "--output", required=True, type=Path, help="manifest.json in the folder of the export"
    )
    arguments = parser.parse_args()

    form, limits = format_of(arguments.format), limits_of(arguments.format, arguments.limits)
    manifest = read_manifest(arguments.model, "model")
    reference = read_manifest(arguments.reference, "export_reference")
    if reference["name"] != manifest["name"]:
        raise InputError(
            f"{arguments.reference}: of {reference['name']}, expected that of {manifest['name']}"
        )

    from zagreus.export.job import export

    folder = arguments.output.parent
    name = file_name(manifest["model"], manifest["checkpoint"], form)
    with atomic_folder(folder) as partial:
        made = export(
            arguments.model.parent,
            arguments.reference.parent,
            form,
            limits,
            partial / name,
            title=manifest.get("title", manifest["model"]),
            languages=reference["languages"],
            threads=arguments.threads,
        )
    write_manifest(
        arguments.output,
        kind="export",
        name=f"{manifest['name']}/{form.name}",
        inputs=[arguments.model, arguments.reference],
        outputs=[folder / name],
        packages=made.packages,
        circumstances={"measured": made.measured},
        model=manifest["model"],
        checkpoint=manifest["checkpoint"],
        languages=reference["languages"],
        chat=reference["chat"],
        **made.facts,
    )


if __name__ == "__main__":
    run(main)
