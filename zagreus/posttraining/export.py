"""The trained model as a Hugging Face folder.

Weights, config, tokenizer with chat template, generation config, card.
"""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from zagreus.errors import InputError
from zagreus.languages import hub_codes
from zagreus.model.versions import for_both_versions, rewrite_tokenizer_config
from zagreus.posttraining.chatml import TEMPLATE, TURN_END, TURN_START
from zagreus.posttraining.templates import ChatTemplate
from zagreus.posttraining.turns import special_ids

COPIED = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


def turn_tokens(base: Path) -> dict[str, int]:
    """Return the ids of the turn markers in a model folder's tokenizer.

    Raise `InputError` where they are not special tokens of it.
    """
    file = base / "tokenizer.json"
    if not file.exists():
        raise InputError(f"{base}: a model folder without tokenizer.json")
    added = {
        token["content"]: token
        for token in json.loads(file.read_text(encoding="utf-8"))["added_tokens"]
    }
    missing = [
        name for name in (TURN_START, TURN_END) if name not in added or not added[name]["special"]
    ]
    if missing:
        raise InputError(
            f"{file}: {' and '.join(missing)} not among the special tokens, ChatML needs them"
        )
    return {name: added[name]["id"] for name in (TURN_START, TURN_END)}


def export_model(
    trained: Path,
    base: Path,
    folder: Path,
    template: ChatTemplate | None = None,
    recipe: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write the model folder from what Axolotl saved, and return facts of it (`parameters`,
    `vocab_size`).

    Axolotl turns `use_cache` off for training, which would make generation quadratic, and leaves
    its own card, arguments and logs beside the model: they stay behind.

    Args:
        trained: Axolotl's `output_dir`.
        base: folder of the model that it started from, for the special tokens' ids.
        folder: an empty folder.
        template: the chat template that the model was trained with; None for ChatML.
        recipe: whose `special_tokens.pad_token` is the padding of a model with another template.
    """
    weights = sorted(trained.glob("*.safetensors")) + sorted(
        trained.glob("*.safetensors.index.json")
    )
    if not weights:
        raise InputError(f"{trained}: Axolotl saved no weights")
    for file in [*weights, *(trained / name for name in COPIED)]:
        shutil.copyfile(file, folder / file.name)
    rewrite_tokenizer_config(folder)
    text = template.file.read_text(encoding="utf-8") if template else TEMPLATE
    if (folder / "chat_template.jinja").read_text(encoding="utf-8").strip() != text.strip():
        raise InputError(f"{trained}: the saved chat template is not the one that was trained with")
    stop, pad = _end_tokens(base, template, recipe or {})
    config = json.loads((trained / "config.json").read_text(encoding="utf-8"))
    config.update(use_cache=True, eos_token_id=stop, pad_token_id=pad)
    _write_json(folder / "config.json", for_both_versions(config))
    generation = {
        "bos_token_id": config.get("bos_token_id"),
        "eos_token_id": stop,
        "pad_token_id": pad,
        "do_sample": False,
        "transformers_version": config["transformers_version"],
    }
    _write_json(folder / "generation_config.json", generation)
    return {
        "parameters": sum(_parameters(file) for file in weights if file.suffix == ".safetensors"),
        "vocab_size": config["vocab_size"],
    }


def _end_tokens(
    base: Path, template: ChatTemplate | None, recipe: Mapping[str, Any]
) -> tuple[int, int]:
    """Return the ids of the token that ends a turn and of the padding."""
    if template is None:
        end = turn_tokens(base)[TURN_END]
        return end, end
    pad = (recipe.get("special_tokens") or {}).get("pad_token", template.stop)
    ids = special_ids(base, (template.stop, pad))
    return ids[template.stop], ids[pad]


def model_card(facts: Mapping[str, Any]) -> str:
    """Return README.md of a post-trained model.

    Args:
        facts: `title`, `model`, `stage`, `languages`, `base`, `recipe`, `data` (the data set's
            manifest), `steps`, `loss_first`, `loss_last`, `parameters`; `rows`, `rows_given`,
            `rows_validation` and `rows_lost` (by reason). `teacher`, `heldout_kl` and
            `teacher_correct` of a distillation.
    """
    data = facts["data"]
    counts = f"trained on {facts['rows']:,} of {facts['rows_given']:,} rows"
    if facts["rows_validation"]:
        counts += f"; {facts['rows_validation']:,} for validation"
    for reason, count in facts["rows_lost"].items():
        counts += f"; {count:,} left out: {reason}"
    how = {
        "sft": "supervised fine-tuning on conversations",
        "dpo": "direct preference optimization on pairs of replies",
        "distill": f"on-policy distillation from `{facts.get('teacher')}`",
    }
    library = "TRL" if facts["stage"] == "distill" else "Axolotl"
    further = ""
    if "heldout_kl" in facts:
        kl = facts["heldout_kl"]
        further = (
            "\n| KL from the teacher on held-out prompts, before and after | "
            f"{kl['before']:.4f}, {kl['after']:.4f} nats a token |"
        )
    if "teacher_correct" in facts:
        counts += f"; {facts['teacher_correct']['dropped']:,} left out: the teacher answers wrongly"
    origins = "\n".join(
        f"- {origin['file']} (sha256 `{origin['sha256']}`)" for origin in data["origins"]
    )
    # Written by the library: Norwegian's code, `no`, is false in YAML unless quoted.
    head = yaml.safe_dump(
        {
            "library_name": "transformers",
            "pipeline_tag": "text-generation",
            "language": sorted(hub_codes(facts["languages"])),
        },
        sort_keys=False,
    )
    greeting = "Ciao" if "ita" in facts["languages"] else "Hello"
    return f"""---
{head}---

# {facts["title"]} ({facts["stage"]})

`{facts["model"]}` after {how.get(facts["stage"], facts["stage"])}, with {library}. {facts["parameters"]:,} parameters.

| | |
|---|---|
| started from | `{facts["base"]}` |
| recipe | `{facts["recipe"]}` |
| data | `{data["name"]}`, {counts} ({data["rows_heldout"]:,} more held out) |
| steps | {facts["steps"]} |
| training loss, first and last | {facts["loss_first"]:.4f}, {facts["loss_last"]:.4f} |{further}

The data were made from:

{origins}

## Use

The chat template is {facts.get("template", "ChatML")}; a turn ends with `{facts.get("stop", TURN_END)}`, which is also the end-of-sequence token of `generation_config.json`.

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(FOLDER)
model = AutoModelForCausalLM.from_pretrained(FOLDER)
inputs = tokenizer.apply_chat_template([{{"role": "user", "content": "{greeting}"}}], add_generation_prompt=True, return_tensors="pt", return_dict=True)
print(tokenizer.decode(model.generate(**inputs, max_new_tokens=64)[0]))
```

What it knows, it knows from its base model; what this stage adds is the form of a conversation. It was not made safe for use by others.
"""  # noqa: E501


def _parameters(file: Path) -> int:
    """Return how many numbers a safetensors file holds, from its header."""
    with open(file, "rb") as opened:
        header = json.loads(opened.read(struct.unpack("<Q", opened.read(8))[0]))
    total = 0
    for name, entry in header.items():
        if name != "__metadata__":
            count = 1
            for length in entry["shape"]:
                count *= length
            total += count
    return total


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
