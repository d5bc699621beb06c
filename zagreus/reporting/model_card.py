"""The model card as it is published.

What a model was made from and how, from its manifests, and how it scores, from the run's tables.

It is written when a model is published and not when it is made: scores come after the weights, and
would otherwise change what the weights' folder is.
"""

from __future__ import annotations

from typing import Any

import pandas as pd
import yaml

from zagreus.config.yaml_file import parse_yaml
from zagreus.errors import InputError
from zagreus.languages import hub_codes, language_name
from zagreus.reporting.cells import count, number
from zagreus.reporting.exports import card_lines
from zagreus.reporting.lineage import Lineage, Node
from zagreus.reporting.tables import weights_sha256


def complete_card(card: str, lineage: Lineage, node: Node, tables: dict[str, pd.DataFrame]) -> str:
    """Return the card of a model folder (its README.md) with data, scores and limits added, and the
    hub's metadata of them.

    Args:
        card: README.md as `convert`, `posttrain` or `fetch_model` wrote it: metadata between lines
            of `---`, then text.
        lineage: manifests behind the model.
        node: the model's own.
        tables: scores, contamination, exports, export_speeds of the run (`tables/`).

    Raises:
        InputError: the scores are of other weights.
    """
    model, checkpoint = node.manifest["model"], str(node.manifest["checkpoint"])
    head, body = _split(card)
    scores = tables["scores"]
    own_scores = scores[(scores["model"] == model) & (scores["checkpoint"] == checkpoint)]
    weights = weights_sha256(node)
    for other in own_scores["weights_sha256"].dropna().unique():
        if other != weights:
            raise InputError(
                f"scores.csv: scores of {model}/{checkpoint} with weights {other[:12]}..., but "
                f"{node.path} has {str(weights)[:12]}...:"
                " another model's; score it again"
            )
    sources = _sources(lineage, node)
    licences = sorted({source["licence"] for source in sources if source["licence"]})
    named = head.get("language") or []
    head["language"] = hub_codes([named] if isinstance(named, str) else named)
    head.setdefault("license", "other")
    head.setdefault("license_name", "of-the-training-text")
    exports, speeds = (
        frame[(frame["model"] == model) & (frame["checkpoint"].astype(str) == checkpoint)]
        for frame in (tables["exports"], tables["export_speeds"])
    )
    kinds = {"llama.cpp": "gguf", "onnxruntime": "onnx"}
    tags = [kinds[runtime] for runtime in dict.fromkeys(exports["runtime"])]
    if tags:
        head["tags"] = [*(head.get("tags") or []), *tags]
    if len(own_scores):
        head["model-index"] = [
            {"name": model, "results": [_result(row) for row in own_scores.itertuples()]}
        ]
    parts = [
        "---",
        yaml.safe_dump(head, sort_keys=False, allow_unicode=True).rstrip(),
        "---",
        "",
        body.rstrip(),
        "",
    ]
    parts += [
        "## Text and conversations behind it",
        "",
        "| | language | documents | licence | sha256 of its manifest |",
        "|---|---|---|---|---|",
    ]
    parts += [
        f"| {source['name']} | {source['language']} | {count(source['documents'])} | "
        f"{source['licence'] or 'not stated'} | `{source['sha256']}` |"
        for source in sources
    ]
    parts += ["", "## Scores", ""]
    parts += (
        _scores(own_scores) if len(own_scores) else ["This run has not scored this checkpoint."]
    )
    parts += card_lines(exports, speeds, lineage)
    parts += [
        "",
        "## Limits",
        "",
        *(
            f"- {limit}"
            for limit in _limits(node, own_scores, sources, tables["contamination"], licences)
        ),
        "",
    ]
    return "\n".join(parts)


def _split(card: str) -> tuple[dict[str, Any], str]:
    """Return a card's metadata and its text."""
    if card.startswith("---\n") and "\n---\n" in card[4:]:
        head, _, body = card[4:].partition("\n---\n")
        return parse_yaml(head, "model card") or {}, body
    return {}, card


def _sources(lineage: Lineage, node: Node) -> list[dict[str, Any]]:
    """The text and conversations that the model, and those it was made from, were trained on, one
    row a source; not what its tokenizer alone
    was trained on."""
    behind = list(lineage.ancestors(node.path))
    read = {ancestor.name.partition("/")[0] for ancestor in behind if ancestor.kind == "tokens"}
    sources: dict[str, dict[str, Any]] = {}
    for ancestor in behind:
        name = ancestor.name.partition("/")[0]
        if ancestor.kind == "chat" or (ancestor.kind == "source" and name in read):
            row = sources.setdefault(
                name,
                {
                    "name": name,
                    "language": ancestor.manifest.get("language") or "",
                    "documents": 0,
                    "licence": ancestor.manifest.get("licence"),
                    "sha256": ancestor.sha256,
                },
            )
            row["documents"] += (
                ancestor.manifest.get("documents") or ancestor.manifest.get("rows") or 0
            )
    return sorted(sources.values(), key=lambda row: row["name"])


def _result(row: Any) -> dict[str, Any]:
    """One score as the hub's `model-index` has it."""
    return {
        "task": {"type": "text-generation"},
        "dataset": {"name": f"{row.task} ({language_name(row.language)})", "type": row.task},
        "metrics": [{"type": row.metric, "value": float(row.value)}],
    }


def _scores(rows: pd.DataFrame) -> list[str]:
    lines = [
        "| task | language | metric | value ± standard error | n | few-shot | chance | majority "
        "class | above both |"
    ]
    lines.append("|---|---|---|---|---|---|---|---|---|")
    for row in rows.itertuples():
        above = "" if pd.isna(row.above_chance) else "yes" if row.above_chance else "no"
        error = "" if pd.isna(row.stderr) else f" ± {number(row.stderr)}"
        lines.append(
            f"| {row.task} | {language_name(str(row.language))} | "
            f"{row.metric}{'' if row.higher_is_better else ' (less is better)'}"
            f" | {number(row.value)}{error} | {row.n} | {row.num_fewshot} | {number(row.chance)} | "
            f"{number(row.majority_baseline)} | {above} |"
        )
    return lines


def _limits(
    node: Node,
    rows: pd.DataFrame,
    sources: list[dict[str, Any]],
    contamination: pd.DataFrame,
    licences: list[str],
) -> list[str]:
    """What a user has to know, from the numbers."""
    limits = []
    below = rows[rows["above_chance"].eq(False).fillna(False)]
    if len(below):
        tasks = ", ".join(f"{row.task} ({row.metric})" for row in below.itertuples())
        limits.append(
            f"Not above chance and the majority-class baseline: {tasks}. These scores say nothing "
            "of what it knows."
        )
    touched = contamination[
        contamination["source"].isin([source["name"] for source in sources])
        & (contamination["overlapping"] > 0)
    ]
    if len(touched):
        pairs = ", ".join(
            f"{row.overlapping} of {row.checked} items of {row.dataset} (in {row.source})"
            for row in touched.itertuples()
        )
        limits.append(f"Evaluation items that stand in its training text: {pairs}.")
    if not str(node.manifest["checkpoint"]).isalpha():
        limits.append("A base model: it continues text and follows no instructions.")
    limits.append(
        "It repeats what its training text says, mistakes and prejudices included, and nothing "
        "was done to make it safe for use by others."
    )
    if licences:
        limits.append(
            f"Licences of the text that it was trained on: {'; '.join(licences)}. Whether they "
            "bind the weights is for you to judge."
        )
    return limits
