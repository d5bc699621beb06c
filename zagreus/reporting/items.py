"""Every item's answer, as `evaluate` keeps it (`SUITE.items.parquet`), in the form that comparisons
and re-scoring need: no model.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet

from zagreus.errors import InputError
from zagreus.manifest import sha256_file
from zagreus.pairs import METRICS
from zagreus.reporting.lineage import Lineage, Node


@dataclass
class Answers:
    """The items of one task for one checkpoint by one metric, which is `numerators.sum() /
    denominators.sum()`: right answers of one each,
    bits of bytes. Both float64 [n], with `items` int64 [n], the rows of the scored split."""

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
        return bool(np.all(self.denominators == 1) and np.all(np.isin(self.numerators, (0, 1))))

    def value(self, kept: np.ndarray | None = None) -> float:
        """Return the metric over all items, or over those of a mask."""
        chosen = slice(None) if kept is None else kept
        return float(self.numerators[chosen].sum() / self.denominators[chosen].sum())


@dataclass
class Pairs:
    """The items of one task for one checkpoint by a metric that is made of pairs, (right,
    answered), and no ratio of sums.
    """

    model: str
    checkpoint: str
    task: str
    metric: str
    items: np.ndarray
    pairs: list[tuple[str, str]]

    def value(self, kept: np.ndarray | None = None) -> float:
        """Return the metric over all items, or over those of a mask."""
        return METRICS[self.metric](
            self.pairs
            if kept is None
            else [pair for pair, keep in zip(self.pairs, kept, strict=True) if keep]
        )


def all_answers(lineage: Lineage) -> Iterator[Answers | Pairs]:
    """Yield the answers of every task of every manifest of scores, in their order, by each of its
    metrics that can be made of items.

    Raises:
        InputError: a file is missing or is not the one that the scores were made with, or its items
            do not give the scores.
    """
    for node in lineage.of_kind("scores"):
        table = _read(node)
        for task, rows in table.groupby("task", sort=False):
            rows = rows.sort_values("doc_id")
            held = [dict(values) for values in rows["values"]]
            items = rows["doc_id"].astype("int64").to_numpy()
            for score in (entry for entry in node.manifest["scores"] if entry["task"] == task):
                metric = score["metric"]
                if metric in held[0]:
                    yield _checked(
                        node,
                        score,
                        _answers(node, score, items, [values[metric] for values in held]),
                    )
                elif metric in METRICS:
                    of = (
                        node.manifest["model"],
                        str(node.manifest["checkpoint"]),
                        str(task),
                        metric,
                    )
                    yield _checked(
                        node, score, Pairs(*of, items, [tuple(pair) for pair in rows["pair"]])
                    )


def _read(node: Node) -> pd.DataFrame:
    output = next(
        (item for item in node.manifest["outputs"] if item["path"].endswith(".items.parquet")), None
    )
    if output is None:
        raise InputError(f"{node.path}: scores without a file of items")
    path = output["path"]
    try:
        digest = sha256_file(path)
        if digest != output["sha256"]:
            raise InputError(
                f"{path}: sha256 {digest[:12]}..., expected {output['sha256'][:12]}... as "
                f"{node.path} says: items of other scores"
            )
        table = pyarrow.parquet.read_table(path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file, {node.path} names it") from None
    except pyarrow.ArrowException as error:
        raise InputError(
            f"{path}: not a whole parquet file ({str(error).splitlines()[0]})"
        ) from None
    missing = [column for column in ("values", "pair") if column not in table.column_names]
    if missing:
        raise InputError(
            f"{path}: no column '{missing[0]}', it has {', '.join(table.column_names)}; score it "
            "again"
        )
    return table.to_pandas()


def _answers(node: Node, score: dict[str, Any], items: np.ndarray, values: list[Any]) -> Answers:
    numerators, denominators = np.array([list(value) for value in values], dtype=float).T
    of = (node.manifest["model"], str(node.manifest["checkpoint"]), score["task"], score["metric"])
    return Answers(*of, bool(score["higher_is_better"]), items, numerators, denominators)


def _checked(node: Node, score: dict[str, Any], answers: Answers | Pairs) -> Answers | Pairs:
    if not math.isclose(score["value"], answers.value(), rel_tol=1e-9, abs_tol=1e-9):
        raise InputError(
            f"{node.path}: the items of task '{score['task']}' give a {score['metric']} of "
            f"{answers.value():.6f}, expected {score['value']:.6f},"
            " as stands among its scores"
        )
    return answers
