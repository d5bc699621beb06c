"""Whose results are these.

Scores and texts that lie where another model's belong, or were made from other weights, are
refused.
"""

from __future__ import annotations

from pathlib import Path

from zagreus.errors import InputError
from zagreus.reporting.lineage import Lineage, Node
from zagreus.reporting.tables import weights_sha256


def check_owners(lineage: Lineage) -> None:
    """Check every manifest of scores (`evaluate/MODEL/CHECKPOINT/SUITE.json`) and of samples
    (`samples/MODEL/CHECKPOINT.json`).

    Raises:
        InputError: it lies in another model's place, names another model than the one it was made
            from, or was made from weights that are not those of that model now.
    """
    for kind in ("scores", "samples"):
        for node in lineage.of_kind(kind):
            _check(node, lineage.nearest(node.path, "model"))


def _check(node: Node, model: Node | None) -> None:
    owner = f"{node.manifest.get('model')}/{node.manifest.get('checkpoint')}"
    path = Path(node.path)
    folder = path.parent if node.kind == "scores" else path.with_suffix("")
    folder_owner = "/".join(folder.parts[-2:])
    if owner != folder_owner:
        raise InputError(
            f"{path}: {node.kind} of {owner}, expected those of {folder_owner}, whose place this is"
        )
    if model is None:
        raise InputError(
            f"{path}: no manifest of a model among what these {node.kind} were made from, "
            f"expected that of {folder_owner}"
        )
    if (made_from := f"{model.manifest['model']}/{model.manifest['checkpoint']}") != owner:
        raise InputError(
            f"{path}: {node.kind} of {owner} that were made from {made_from} ({model.path}): "
            "another model's"
        )
    weights, expected = node.manifest.get("weights_sha256"), weights_sha256(model)
    if node.kind == "scores" and weights != expected:
        raise InputError(
            f"{path}: scores of weights with sha256 {str(weights)[:12]}..., but those of "
            f"{folder_owner} have {str(expected)[:12]}..."
            f" ({model.path}): another model's; score it again"
        )
