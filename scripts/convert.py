r"""Turn a checkpoint into a transformers Llama, and compare the logits of both on held-out text.

    python scripts/convert.py --checkpoint results/demo/pretrain/ita/245.json \
        --recipe results/demo/pretrain/ita/245.yaml --model ita --title 'Zagreus demo' \
        --mixture '{"ita_bible": 1.0}' --tokenizer results/demo/tokenizer/manifest.json \
        --sources results/demo/sources/ita_bible/00000.json \
        --output results/demo/models/ita/245/manifest.json
"""  # noqa: E501

from __future__ import annotations

import argparse
import json
from pathlib import Path

from zagreus.atomic import atomic_folder
from zagreus.errors import InputError, run
from zagreus.manifest import read_manifest, sha256_file, write_manifest
from zagreus.recipe.read import fingerprint, read_recipe, recipe_slice


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", type=Path, required=True, help="manifest of the checkpoint")
    parser.add_argument(
        "--recipe", type=Path, required=True, help="rendered recipe of the checkpoint"
    )
    parser.add_argument("--model", required=True, help="name of the model")
    parser.add_argument("--title", required=True, help="what the model card calls it")
    parser.add_argument(
        "--mixture", type=json.loads, required=True, help="share of each source, as JSON"
    )
    parser.add_argument(
        "--tokenizer", type=Path, required=True, help="manifest in the tokenizer's folder"
    )
    parser.add_argument(
        "--sources",
        type=Path,
        nargs="+",
        required=True,
        help="a manifest TASK.json of each source, TASK.heldout.parquet beside it",
    )
    parser.add_argument(
        "--dtype",
        choices=["float32", "bfloat16"],
        help="type of the weights that are written (default: the recipe's)",
    )
    parser.add_argument(
        "--output", type=Path, required=True, help="manifest.json in the folder of the model"
    )
    arguments = parser.parse_args()

    recipe = read_recipe(arguments.recipe)
    checkpoint = read_manifest(arguments.checkpoint, "checkpoint")
    if checkpoint["recipe_fingerprint"] != fingerprint(
        recipe_slice(recipe, checkpoint["step"], checkpoint["origin_sha256"])
    ):
        raise InputError(
            f"{arguments.checkpoint}: a checkpoint of another recipe than {arguments.recipe}"
        )
    weights = Path(
        next(
            item["path"]
            for item in checkpoint["outputs"]
            if item["path"].endswith("weights.safetensors")
        )
    )
    if not weights.exists() or sha256_file(weights) != checkpoint["weights_sha256"]:
        raise InputError(f"{weights}: missing or not the weights that {arguments.checkpoint} names")
    sources = {
        source["name"].split("/")[0]: source
        for source in (read_manifest(path, "source") for path in arguments.sources)
    }
    for name in arguments.mixture:
        if name not in sources:
            raise InputError(f"--sources: no manifest of source '{name}', which is in the mixture")
    held_apart = [path.with_suffix(".heldout.parquet") for path in arguments.sources]

    from zagreus.model.card import model_card
    from zagreus.model.convert import (
        TOLERANCE,
        checkpoint_weights,
        held_apart_texts,
        logit_difference,
        write_hf,
    )

    dtype = arguments.dtype or recipe.model.dtype
    tensors = checkpoint_weights(weights, dtype)
    folder = arguments.output.parent
    with atomic_folder(folder) as partial:
        write_hf(recipe, tensors, dtype, arguments.tokenizer.parent, partial)
        difference, largest = logit_difference(
            recipe, tensors, partial, held_apart_texts(held_apart)
        )
        if not difference <= TOLERANCE * largest:
            raise InputError(
                f"{folder}: logits differ by {difference:.3g} from the trainer's, expected at "
                f"most {TOLERANCE * largest:.3g}"
            )
        rows = [
            {
                "name": name,
                "share": share,
                "language": sources[name]["language"],
                "licence": sources[name]["licence"] or "not stated",
            }
            for name, share in arguments.mixture.items()
        ]
        card = model_card(arguments.model, arguments.title, recipe, checkpoint, rows, difference)
        (partial / "README.md").write_text(card, encoding="utf-8")
        names = sorted(item.name for item in partial.iterdir())
    config = recipe.model.model_config
    write_manifest(
        arguments.output,
        kind="model",
        name=f"{arguments.model}/{checkpoint['step']}",
        inputs=[arguments.checkpoint, arguments.tokenizer, *arguments.sources],
        outputs=[folder / name for name in names],
        packages=["torch", "transformers", "safetensors"],
        model=arguments.model,
        title=arguments.title,
        checkpoint=str(checkpoint["step"]),
        step=checkpoint["step"],
        tokens_seen=checkpoint["tokens_seen"],
        vocab_size=config.vocab_size,
        sequence_length=recipe.tokens.sequence_length,
        dtype=dtype,
        logit_difference=difference,
        logit_difference_allowed=TOLERANCE * largest,
        weights_sha256=checkpoint["weights_sha256"],
    )


if __name__ == "__main__":
    run(main)
