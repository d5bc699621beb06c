"""Chat templates by name, and the token that ends an assistant's turn. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path("recipes/templates")
# The token that ends a turn, and the other special tokens that the template writes.
NAMED = {
    "chatml": ("<|im_end|>", ("<|im_start|>",)),
    "hermes": ("<|im_end|>", ("<|im_start|>",)),
    "llama3": ("<|eot_id|>", ("<|start_header_id|>", "<|end_header_id|>")),
}
DEFAULT = "chatml"  # what a stage without a template has


@dataclass(frozen=True)
class ChatTemplate:
    """A chat template."""

    file: Path
    """The Jinja file."""
    stop: str
    """Special token that ends an assistant's turn, in training and in generation."""
    markers: tuple[str, ...] = ()
    """Other special tokens of the tokenizer that the template needs."""


def named_template(name: str) -> ChatTemplate:
    """Return the template of a name in NAMED."""
    stop, markers = NAMED[name]
    return ChatTemplate(FOLDER / f"{name}.jinja", stop, markers)


def template_of(stage: Mapping[str, Any]) -> ChatTemplate | None:
    """Return the template of a stage of the configuration.

    None where the stage names none: Axolotl renders ChatML then.

    Args:
        stage: `template` is a name, or `{file, stop}`.
    """
    template = stage.get("template")
    if template is None:
        return None
    if isinstance(template, str):
        return named_template(template)
    return ChatTemplate(Path(template["file"]), template["stop"])
