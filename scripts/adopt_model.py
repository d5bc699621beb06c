r"""Put a transformers model made elsewhere in the place of a model of this run.

The model is checked, hashed and recorded.

    python scripts/adopt_model.py \
        --entry '{"folder": "/models/zagreus-0.4B-ita", "origin": "..."}' --model ita \
        --title 'Zagreus 0.4B' --checkpoint 775000 \
        --output results/zagreus/models/ita/775000/manifest.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from zagreus.atomic import atomic_folder
from zagreus.errors import run
from zagreus.evaluation.baseline import from_folder, from_hub
from zagreus.evaluation.folder import check_folder, parameters
from zagreus.manifest import describe, write_manifest


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--entry",
        type=json.loads,
        required=True,
        help="where it is from, as JSON: folder and origin, or repo and revision",
    )
    parser.add_argument("--model", required=True, help="name of the model whose place it takes")
    parser.add_argument("--title", required=True, help="what that model is called")
    parser.add_argument("--checkpoint", required=True, help="the checkpoint: a step, or a stage")
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        help="the manifest; the folder it lies in becomes the model folder",
    )
    arguments = parser.parse_args()

    entry, folder = arguments.entry, arguments.output.parent
    origin = entry.get("origin") or f"{entry['repo']} at {entry['revision']}"
    with atomic_folder(folder) as partial:
        if "repo" in entry:
            from_hub(entry["repo"], entry["revision"], partial)
        else:
            from_folder(Path(entry["folder"]), partial)
        config = check_folder(partial)
        files = [describe(file) | {"path": file.name} for file in sorted(partial.iterdir())]
        if not (partial / "README.md").exists():
            (partial / "README.md").write_text(
                f"# {arguments.title}\n\nNot made by this run: {origin}.\n", encoding="utf-8"
            )
        names = sorted(file.name for file in partial.iterdir())
    write_manifest(
        arguments.output,
        kind="model",
        name=f"{arguments.model}/{arguments.checkpoint}",
        outputs=[folder / name for name in names],
        packages=["transformers", "torch"],
        circumstances={"folder": entry.get("folder")},
        model=arguments.model,
        title=arguments.title,
        checkpoint=arguments.checkpoint,
        parameters=parameters(folder),
        vocab_size=config["vocab_size"],
        adopted=origin,
        origin=files,
    )


if __name__ == "__main__":
    run(main)
