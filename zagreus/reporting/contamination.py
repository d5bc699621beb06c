"""Contamination in tables.

Which training text holds which evaluation items, and the scores with and without them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pandas as pd
import pyarrow.parquet

from zagreus.errors import InputError
from zagreus.reporting.items import Answers, Pairs
from zagreus.reporting.lineage import Lineage, Node
from zagreus.reporting.tables import Model

COLUMNS = ["source", "dataset", "items", "checked", "overlapping", "share"]
ITEM_COLUMNS = [
    "source",
    "text",
    "dataset",
    "split",
    "row",
    "item",
    "ngrams",
    "matched",
    "documents",
    "example",
]
SCORE_COLUMNS = [
    "model",
    "checkpoint",
    "task",
    "metric",
    "dataset",
    "n",
    "value",
    "overlapping",
    "without",
    "difference",
]


def contaminated_items(lineage: Lineage) -> pd.DataFrame:
    """Return one row per item and text that shares an n-gram with it: ITEM_COLUMNS.

    `source` is a source, or a data set of conversations. Where near-duplicates were looked for, the
    column `similarity` has the share of a passage's character n-grams; an item that was found by
    that search alone has no n-grams.
    """
    frames = []
    for node in _searches(lineage):
        path = next(
            item["path"] for item in node.manifest["outputs"] if item["path"].endswith(".parquet")
        )
        try:
            rows = pyarrow.parquet.read_table(path).to_pandas()
        except FileNotFoundError:
            raise InputError(f"{path}: no such file, {node.path} names it") from None
        frames.append(rows.assign(source=_source(node), text=node.name.rpartition("/")[0]))
    if not frames:
        return pd.DataFrame(columns=ITEM_COLUMNS)
    table = _joined(pd.concat(frames, ignore_index=True))
    return table.sort_values(["source", "text", "dataset", "row"], kind="stable", ignore_index=True)


def _searches(lineage: Lineage) -> Iterator[Node]:
    """Yield the searches for n-grams, then those for near-duplicates."""
    yield from lineage.of_kind("contamination")
    yield from lineage.of_kind("near_duplicates")


def _joined(rows: pd.DataFrame) -> pd.DataFrame:
    """Return one row per item and text; the two searches may have found the same item."""
    if "similarity" not in rows:
        return rows[ITEM_COLUMNS]
    key = ["source", "text", "dataset", "split", "row"]
    similarity = rows.dropna(subset="similarity").set_index(key)["similarity"]
    first = rows.drop_duplicates(key)[ITEM_COLUMNS].reset_index(drop=True)
    first["similarity"] = similarity.reindex(pd.MultiIndex.from_frame(first[key])).to_numpy()
    return first.astype({"ngrams": "Int64", "matched": "Int64"})


def contamination_table(lineage: Lineage, items: pd.DataFrame) -> pd.DataFrame:
    """Return one row per source and data set that a model trained on it is asked: COLUMNS.

    An item counts once, in however many shards.
    """
    counted = (
        items.drop_duplicates(["source", "dataset", "row"]).groupby(["source", "dataset"]).size()
    )
    rows: dict[tuple[str, str], dict] = {}
    for node in _searches(lineage):
        source = _source(node)
        for dataset, counts in node.manifest["overlap"].items():
            overlapping = int(counted.get((source, dataset), 0))
            checked = counts["checked"]
            share = round(overlapping / checked, 6) if checked else None
            row = {
                "source": source,
                "dataset": dataset,
                "items": counts["items"],
                "checked": checked,
                "overlapping": overlapping,
                "share": share,
            }
            rows.setdefault((source, dataset), row)
    return pd.DataFrame(list(rows.values()), columns=COLUMNS)


def clean_scores(
    lineage: Lineage,
    items: pd.DataFrame,
    answers: Iterable[Answers | Pairs],
    models: list[Model],
    tasks: dict[str, str],
) -> pd.DataFrame:
    """Return one row per task and metric of each last checkpoint whose training text holds items of
    it: SCORE_COLUMNS.

    Args:
        lineage: the run's manifests.
        items: what `contaminated_items` gives.
        answers: of every item.
        models: the family, in order.
        tasks: the data set of each task.

    Returns:
        `value` over all n items, `without` over those of which no text that the model was trained
        on (or the models that it was made from) shares an n-gram; None where none is left.
    """
    last = {(model["name"], model["checkpoints"][-1]) for model in models}
    nodes = {
        (node.manifest["model"], str(node.manifest["checkpoint"])): node
        for node in lineage.of_kind("model")
    }
    rows_of = {key: set(rows["row"]) for key, rows in items.groupby(["source", "dataset"])}
    rows = []
    for answer in answers:
        key = (answer.model, answer.checkpoint)
        if key not in last or answer.task not in tasks or key not in nodes:
            continue
        dataset = tasks[answer.task]
        read = {
            name
            for node in lineage.ancestors(nodes[key].path)
            if node.kind in ("tokens", "chat")
            for name in [_source(node)]
        }
        held = set().union(*(rows_of.get((source, dataset), set()) for source in read))
        if not held:
            continue
        kept = ~np.isin(answer.items, list(held))
        value, without = answer.value(), answer.value(kept) if kept.any() else None
        rows.append(
            {
                "model": answer.model,
                "checkpoint": answer.checkpoint,
                "task": answer.task,
                "metric": answer.metric,
                "dataset": dataset,
                "n": len(answer.items),
                "value": value,
                "overlapping": int((~kept).sum()),
                "without": without,
                "difference": None if without is None else without - value,
            }
        )
    return pd.DataFrame(rows, columns=SCORE_COLUMNS)


def contamination_artifacts(lineage: Lineage) -> dict[tuple[str, str], str]:
    """Return where a data set's overlap with a source, or with one of its texts (SOURCE/TASK), was
    counted: the path of the manifest, of the
    first text where a source has several."""
    paths: dict[tuple[str, str], str] = {}
    for node in _searches(lineage):
        for dataset in node.manifest["overlap"]:
            for text in (_source(node), node.name.rpartition("/")[0]):
                paths.setdefault((text, dataset), node.path)
    return paths


def _source(node: Node) -> str:
    """Return the name of the source, or data set of conversations, that an artifact is of.

    Manifests are named SOURCE/TASK, chat/DATASET; of
    contamination SOURCE/PART/LANGUAGE, chat/DATASET/all."""
    first, *rest = node.name.split("/")
    return rest[0] if first == "chat" and rest and not rest[0].isdigit() else first
