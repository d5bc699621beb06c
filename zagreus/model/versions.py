"""config.json and tokenizer_config.json for transformers 4 and 5.

What moved between the versions stands in both places.

transformers 5 reads the rotary embedding under `rope_parameters` and the weights' type under
`dtype`; transformers 4 reads `rope_theta` and `rope_scaling` at the top level, and `torch_dtype`.
Version 4 takes its default, 10000, where `rope_theta` is missing, without a word.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any


def for_both_versions(config: dict[str, Any]) -> dict[str, Any]:
    """Return the content of a config.json with the keys of transformers 4 beside those of 5.

    Where one version's key is missing, it gets the other's value. Both present and different:
    version 5's holds, with which the model was made.
    """
    content = dict(config)
    rope = dict(content.get("rope_parameters") or {})
    if rope and all(isinstance(value, dict) for value in rope.values()):
        return _with_types(
            content
        )  # one embedding for each kind of layer: version 4 has no such form
    theta = rope.get("rope_theta", content.get("rope_theta"))
    if theta is not None:
        scaling = {key: value for key, value in rope.items() if key != "rope_theta"}
        if not rope:
            scaling = dict(content.get("rope_scaling") or {"rope_type": "default"})
        content["rope_theta"] = theta
        content["rope_parameters"] = {"rope_theta": theta, **scaling}
        scaled = scaling.get("rope_type", scaling.get("type", "default")) != "default"
        content["rope_scaling"] = scaling if scaled else None
    return _with_types(content)


def _with_types(content: dict[str, Any]) -> dict[str, Any]:
    dtype = content.get("dtype", content.get("torch_dtype"))
    return content if dtype is None else {**content, "dtype": dtype, "torch_dtype": dtype}


def rewrite_config(folder: Path) -> None:
    """Bring a model folder's config.json into the form for both versions."""
    _rewrite(folder / "config.json", for_both_versions)


def rewrite_tokenizer_config(folder: Path) -> None:
    """Bring a model folder's tokenizer_config.json into the form for both versions.

    Version 5 names a class that version 4 does not have, and lists special tokens without a role
    under a key by which version 4 means a mapping. Version 5 reads version 4's names too.
    """
    _rewrite(folder / "tokenizer_config.json", _tokenizer_config)


def _tokenizer_config(config: dict[str, Any]) -> dict[str, Any]:
    content = {key: value for key, value in config.items() if key != "backend"}
    if content.get("tokenizer_class") == "TokenizersBackend":
        content["tokenizer_class"] = "PreTrainedTokenizerFast"
    if isinstance(content.get("extra_special_tokens"), list):
        content["additional_special_tokens"] = content.pop("extra_special_tokens")
    return content


def _rewrite(path: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    content = change(json.loads(path.read_text(encoding="utf-8")))
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
