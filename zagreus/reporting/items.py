"""Every item's answer, as `evaluate` keeps it (`SUITE.items.parquet`), in the form that comparisons and re-scoring need: no model."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet

from zagreus.errors import InputError
from zagreus.reporting.lineage import Lineage, Node


@dataclass
class Answers:
    """The items of one task for one checkpoint. The metric is `numerators.sum() / denominators.sum()`: right answers of one each, or bits
    of the bytes. Both float64 [n], with `items` int64 [n], the rows of the scored split."""

    model: str
    checkpoint: str
    task: str
    metric: str
    higher_is_better: bool
    items: np.ndarray
    numerators: np.ndarray
    denominators: np.ndarray

    @property
    def whether(self) -> bool:
        """Whether each item is right or wrong."""
        return self.metric != "bits_per_byte"

    def value(self, kept: np.ndarray | None = None) -> float:
        """Return the metric over all items, or over those of a mask."""
        chosen = slice(None) if kept is None else kept
        return float(self.numerators[chosen].sum() / self.denominators[chosen].sum())


def all_answers(lineage: Lineage) -> Iterator[Answers]:
    """Yield the answers of every task of every manifest of scores, in their order.

    The metric is the one whose value the items give. A task is left out whose items are not right or wrong, and no text (IFEval by
    instruction), or whose scores are no mean over items (macro-F1).

    Raises:
        InputError: a file is missing, or its items do not give the accuracy or bits per byte that stand among the task's scores.
    """
    for node in lineage.of_kind("scores"):
        table = _read(node)
        for task, rows in table.groupby("task", sort=False):
            scores = [score for score in node.manifest["scores"] if score["task"] == task]
            found = _answers(node, str(task), rows, scores)
            if found is not None:
                yield found


def _read(node: Node) -> pd.DataFrame:
    path = next((item["path"] for item in node.manifest["outputs"] if item["path"].endswith(".items.parquet")), None)
    if path is None:
        raise InputError(f"{node.path}: scores without a file of items")
    try:
        return pyarrow.parquet.read_table(path).to_pandas()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file, {node.path} names it") from None
    except pyarrow.ArrowException as error:
        raise InputError(f"{path}: not a whole parquet file ({str(error).splitlines()[0]})") from None


def _answers(node: Node, task: str, rows: pd.DataFrame, scores: list[dict]) -> Answers | None:
    rows = rows.sort_values("doc_id")
    if rows["correct"].notna().all():
        numerators, denominators = rows["correct"].astype(float).to_numpy(), np.ones(len(rows))
    elif rows["correct"].isna().all() and rows["gold"].isna().all() and rows["loglikelihoods"].notna().all():
        numerators = np.array([-values[0] / math.log(2) for values in rows["loglikelihoods"]])
        denominators = np.array([float(sizes[0]) for sizes in rows["bytes"]])
    else:
        return None
    value = numerators.sum() / denominators.sum()
    for score in scores:
        if math.isclose(score["value"], value, rel_tol=1e-9, abs_tol=1e-9):
            model, checkpoint = node.manifest["model"], str(node.manifest["checkpoint"])
            items = rows["doc_id"].astype("int64").to_numpy()
            return Answers(model, checkpoint, task, score["metric"], bool(score["higher_is_better"]), items, numerators, denominators)
    if not {"acc", "bits_per_byte"} & {score["metric"] for score in scores}:
        return None  # scored by what is no mean over items, macro-F1 for one
    raise InputError(f"{node.path}: the items of task '{task}' give {value:.6f}, which is none of its scores")
