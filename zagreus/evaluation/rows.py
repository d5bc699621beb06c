"""The items of a task as they are kept, so that any later re-scoring needs no model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow

from zagreus.pairs import METRICS

Sample = Mapping[str, Any]

ITEMS = pyarrow.schema(
    [
        ("task", pyarrow.string()),
        ("doc_id", pyarrow.int64()),
        ("gold", pyarrow.int64()),
        ("prediction", pyarrow.int64()),
        ("correct", pyarrow.bool_()),
        ("loglikelihoods", pyarrow.list_(pyarrow.float64())),
        ("bytes", pyarrow.list_(pyarrow.int64())),
        ("response", pyarrow.string()),
        # Metric: (numerator, denominator). Over any items, the sum of the ones by the sum of the
        # others is the metric.
        ("values", pyarrow.map_(pyarrow.string(), pyarrow.list_(pyarrow.float64()))),
        # What is right and what was answered, for a metric that is made of such pairs and no ratio
        # of sums (zagreus/pairs.py).
        ("pair", pyarrow.list_(pyarrow.string())),
    ]
)


def gold(sample: Sample) -> int:
    """Return the index of the right choice of a multiple-choice item (lm-eval gives it as its text,
    as a number, or as its digits).
    """
    target = sample["target"]
    choices = [choice.strip() for _, choice in sample["arguments"]]
    if isinstance(target, str) and target.strip() in choices:
        return choices.index(target.strip())
    return int(target)


def loglikelihood(sample: Sample) -> float:
    """Return the log-likelihood in nats of a whole document."""
    return float(sample["filtered_resps"][0])


def item_values(sample: Sample, output_type: str) -> dict[str, tuple[float, float]]:
    """Return {metric: (numerator, denominator)} of an item.

    A metric that is no ratio of sums (macro-F1, a correlation) is left out.
    """
    if "bits_per_byte" in sample["metrics"]:
        return {
            "bits_per_byte": (-loglikelihood(sample) / math.log(2), float(sample["doc"]["bytes"]))
        }
    values = {}
    for metric in sample["metrics"]:
        value = sample[metric]
        if isinstance(value, bool | int | float):
            values[metric] = (float(value), 1.0)
        elif isinstance(value, list):  # IFEval's instructions of a prompt
            values[metric] = (float(sum(value)), float(len(value)))
    if output_type == "multiple_choice":
        right = gold(sample)
        bits = -float(sample["filtered_resps"][right][0]) / math.log(2)
        values["gold_bits_per_byte"] = (
            bits,
            float(len(sample["arguments"][right][1].encode("utf-8"))),
        )
    return values


def item_rows(samples: Sequence[Sample], name: str, output_type: str) -> list[dict[str, Any]]:
    """Return a row per item in the columns of ITEMS; what an item does not have is null."""
    return [
        {
            "task": name,
            "doc_id": sample["doc_id"],
            **_answer(sample, output_type),
            "values": {
                metric: list(value) for metric, value in item_values(sample, output_type).items()
            },
            "pair": next(
                (
                    [str(part) for part in sample[metric]]
                    for metric in sample["metrics"]
                    if metric in METRICS
                ),
                None,
            ),
        }
        for sample in samples
    ]


def _answer(sample: Sample, output_type: str) -> dict[str, Any]:
    if output_type == "multiple_choice":
        loglikelihoods = [float(response[0]) for response in sample["filtered_resps"]]
        prediction = max(range(len(loglikelihoods)), key=loglikelihoods.__getitem__)
        return {
            "gold": gold(sample),
            "prediction": prediction,
            "correct": prediction == gold(sample),
            "loglikelihoods": loglikelihoods,
            "bytes": [len(choice.encode("utf-8")) for _, choice in sample["arguments"]],
        }
    if output_type == "loglikelihood_rolling":
        if "bits_per_byte" not in sample["metrics"]:
            return {}  # by position: `values` has the loss of each range
        return {"loglikelihoods": [loglikelihood(sample)], "bytes": [sample["doc"]["bytes"]]}
    first = sample[sample["metrics"][0]]
    return {
        "correct": bool(first) if isinstance(first, bool | int | float) else None,
        "response": str(sample["filtered_resps"][0]),
    }
