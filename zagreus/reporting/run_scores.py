"""The scores of two runs side by side.

The same items, so that the error is that of the difference.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet

from zagreus.errors import InputError
from zagreus.proof.run_folder import Artifact, RunFolder
from zagreus.reporting.items import Answers
from zagreus.reporting.paired import compare

COLUMNS = ["model", "checkpoint", "task", "metric", "first", "second", "difference", "stderr", "p"]


def compare_scores(first: RunFolder, second: RunFolder) -> pd.DataFrame:
    """Return one row a score that both runs have and that is made of items: COLUMNS.

    `stderr` and `p` are those of zagreus.reporting.paired. Scores of other items in the second run
    (another limit, other data) have a difference without an error.
    """
    sides = [_answers(run) for run in (first, second)]
    rows = []
    for key, one in sides[0].items():
        other = sides[1].get(key)
        if other is None:
            continue
        row: dict[str, Any] = dict(zip(COLUMNS, key)) | {
            "first": one.value(),
            "second": other.value(),
        }
        row |= {"difference": row["second"] - row["first"], "stderr": None, "p": None}
        if np.array_equal(one.items, other.items) and np.array_equal(
            one.denominators, other.denominators
        ):
            test = compare(other, one)
            row |= {"stderr": test["stderr"], "p": test["p_value"]}
        rows.append(row)
    return pd.DataFrame(rows, columns=COLUMNS)


def _answers(run: RunFolder) -> dict[tuple[str, str, str, str], Answers]:
    by_key = {}
    for artifact in run.artifacts.values():
        if artifact.manifest["kind"] == "scores":
            for answers in _of_suite(run, artifact):
                key = (answers.model, answers.checkpoint, answers.task, answers.metric)
                by_key[key] = answers
    return by_key


def _of_suite(run: RunFolder, artifact: Artifact) -> list[Answers]:
    """Return the answers of a suite, by each metric that is a ratio of sums over items."""
    manifest = artifact.manifest
    files = [item["path"] for item in manifest["outputs"] if item["path"].endswith(".parquet")]
    if not files:
        return []
    path = run.locate(files[0])
    try:
        table = pyarrow.parquet.read_table(path, columns=["task", "doc_id", "values"]).to_pandas()
    except (OSError, pyarrow.ArrowException) as error:
        raise InputError(
            f"{path}: the items of {artifact.path} cannot be read ({str(error).splitlines()[0]})"
        ) from None
    answers = []
    for score in manifest["scores"]:
        rows = table[table["task"] == score["task"]].sort_values("doc_id")
        held = [dict(value) for value in rows["values"]]
        if not held or any(score["metric"] not in values for values in held):
            continue
        parts = np.array([list(values[score["metric"]]) for values in held], dtype=np.float64)
        numerators, denominators = parts.T
        answers.append(
            Answers(
                str(manifest["model"]),
                str(manifest["checkpoint"]),
                score["task"],
                score["metric"],
                bool(score["higher_is_better"]),
                rows["doc_id"].astype("int64").to_numpy(),
                numerators,
                denominators,
            )
        )
    return answers
