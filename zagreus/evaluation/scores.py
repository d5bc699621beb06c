"""Scores from lm-eval's results, and what stands beside each: standard error, chance, the best constant answer."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow

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
    ]
)


def ratio_stderr(numerators: Sequence[float], denominators: Sequence[float]) -> float | None:
    """Return the standard error of sum(numerators) / sum(denominators) over independent items; None for fewer than two.

    By linearization (W. G. Cochran, Sampling Techniques, 3rd edition, 1977, section 6.3): with R the ratio and n items,
    SE = sqrt(n / (n - 1) * sum (numerator - R denominator)^2) / sum(denominators).
    """
    n = len(numerators)
    if n < 2:
        return None
    total = math.fsum(denominators)
    ratio = math.fsum(numerators) / total
    squares = math.fsum((numerator - ratio * denominator) ** 2 for numerator, denominator in zip(numerators, denominators, strict=True))
    return math.sqrt(n / (n - 1) * squares) / total


def share_stderr(values: Sequence[float]) -> float | None:
    """Return the standard error of a mean, with the sample's variance (n - 1); None for fewer than two values."""
    n = len(values)
    if n < 2:
        return None
    mean = math.fsum(values) / n
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1) / n)


def task_scores(results: Mapping[str, Any], name: str, output_type: str, constants: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return one entry per metric: `metric, value, stderr, n, chance, constant, higher_is_better`.

    Args:
        results: lm-eval's for the task.
        name: of the task.
        output_type: lm-eval's: multiple_choice, loglikelihood_rolling or generate_until.
        constants: for a metric that compares an answer with a label, the column of that label: the best constant answer is the
            label that is there most often.
    """
    samples = results["samples"][name]
    scores = []
    for metric, higher_is_better in results["higher_is_better"][name].items():
        found = [key for key in results["results"][name] if key.split(",")[0] == metric]
        for key in found:
            chance, constant = None, None
            value = results["results"][name][key]
            stderr = results["results"][name].get(key.replace(metric, f"{metric}_stderr", 1))
            if output_type == "multiple_choice":
                chance = math.fsum(1 / len(sample["arguments"]) for sample in samples) / len(samples)
                constant = most_common_share([gold(sample) for sample in samples])
            elif output_type == "loglikelihood_rolling":
                sizes = [sample["doc"]["bytes"] for sample in samples]
                stderr = ratio_stderr([-loglikelihood(sample) / math.log(2) for sample in samples], sizes)
                constant = math.fsum(sample["doc"]["unigram_bits"] for sample in samples) / sum(sizes)
            elif metric in constants:
                constant = most_common_share([sample["doc"][constants[metric]] for sample in samples])
            scores.append(
                {
                    "metric": metric,
                    "value": float(value),
                    "stderr": float(stderr) if isinstance(stderr, int | float) and not math.isnan(stderr) else None,
                    "n": len(samples),
                    "chance": chance,
                    "constant": constant,
                    "higher_is_better": higher_is_better,
                }
            )
    return scores


def most_common_share(labels: Sequence[Any]) -> float:
    """Return the share of the label that is there most often: what the best constant answer gets."""
    return Counter(labels).most_common(1)[0][1] / len(labels)


def gold(sample: Sample) -> int:
    """Return the index of the right choice of a multiple-choice item (lm-eval gives it as a number or as its digits)."""
    return int(sample["target"])


def loglikelihood(sample: Sample) -> float:
    """Return the log-likelihood in nats of a whole document."""
    return float(sample["filtered_resps"][0])


def item_rows(samples: Sequence[Sample], name: str, output_type: str) -> list[dict[str, Any]]:
    """Return a row per item in the columns of ITEMS; what an item does not have is null."""
    return [{"task": name, "doc_id": sample["doc_id"], **_answer(sample, output_type)} for sample in samples]


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
        return {"loglikelihoods": [loglikelihood(sample)], "bytes": [sample["doc"]["bytes"]]}
    first = sample[sample["metrics"][0]]
    return {"correct": bool(first) if isinstance(first, bool | int | float) else None, "response": str(sample["filtered_resps"][0])}
