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


def clustered_stderr(values: Sequence[float], clusters: Sequence[str]) -> float | None:
    """Return the standard error of a mean over items that come in clusters (questions of one subject); None for one cluster.

    The mean is the ratio of the clusters' sums to their sizes. With a cluster for each item it is `share_stderr`.
    """
    sums: dict[str, list[float]] = {}
    for value, cluster in zip(values, clusters, strict=True):
        sums.setdefault(cluster, []).append(value)
    return ratio_stderr([math.fsum(each) for each in sums.values()], [float(len(each)) for each in sums.values()])


def task_scores(
    results: Mapping[str, Any], name: str, recipe: Mapping[str, Any], trivial: Mapping[str, float] | None = None
) -> list[dict[str, Any]]:
    """Return one entry per metric: `metric, value, stderr, n, chance, constant, higher_is_better, unparsed, label_shares`.

    Args:
        results: lm-eval's for the task.
        name: of the task.
        recipe: its task file. Of `metadata`, `constant` gives for a metric that compares an answer with a label the column of that
            label (the best constant answer is the label that is there most often), `label` the function that reads the label from an
            answer, or None where there is none in it; `cluster: id` says that items whose ids are alike up to the first "/" are alike.
        trivial: the best trivial policy's score by metric, where there are such policies.
    """
    samples, output_type = results["samples"][name], recipe["output_type"]
    metadata = recipe.get("metadata", {})
    scores = []
    for metric, higher_is_better in results["higher_is_better"][name].items():
        found = [key for key in results["results"][name] if key.split(",")[0] == metric]
        for key in found:
            chance, constant = None, (trivial or {}).get(metric)
            value = results["results"][name][key]
            stderr = results["results"][name].get(key.replace(metric, f"{metric}_stderr", 1))
            if output_type == "loglikelihood_rolling":
                sizes = [sample["doc"]["bytes"] for sample in samples]
                stderr = ratio_stderr([-loglikelihood(sample) / math.log(2) for sample in samples], sizes)
                constant = math.fsum(sample["doc"]["unigram_bits"] for sample in samples) / sum(sizes)
            else:
                stderr = _item_stderr([sample.get(metric) for sample in samples], samples, metadata, stderr)
            if output_type == "multiple_choice":
                chance = math.fsum(1 / len(sample["arguments"]) for sample in samples) / len(samples)
                constant = most_common_share([gold(sample) for sample in samples])
            elif metric in metadata.get("constant", {}):
                constant = most_common_share([sample["doc"][metadata["constant"][metric]] for sample in samples])
            labels = predicted_labels(samples, metric, recipe)
            scores.append(
                {
                    "metric": metric,
                    "value": float(value),
                    "stderr": float(stderr) if isinstance(stderr, int | float) and not math.isnan(stderr) else None,
                    "n": len(samples),
                    "chance": chance,
                    "constant": constant,
                    "higher_is_better": higher_is_better,
                    "unparsed": labels.count(None) / len(samples) if labels and output_type != "multiple_choice" else None,
                    "label_shares": shares([label for label in labels if label is not None], len(samples)) if labels else None,
                }
            )
    if output_type == "multiple_choice":
        scores.append(gold_bits(samples))
    return scores


def _item_stderr(values: Sequence[Any], samples: Sequence[Sample], metadata: Mapping[str, Any], harness: Any) -> Any:
    """Return the standard error over a metric's values by item: clustered where the task file says so, else lm-eval's own.

    A value that is a list (IFEval's, one for each instruction of a prompt) is a cluster.
    """
    if all(isinstance(value, list) for value in values):
        return ratio_stderr([float(sum(value)) for value in values], [float(len(value)) for value in values])
    if metadata.get("cluster") == "id" and all(isinstance(value, int | float) for value in values):
        return clustered_stderr([float(value) for value in values], [str(sample["doc"]["id"]).partition("/")[0] for sample in samples])
    return harness


def gold_bits(samples: Sequence[Sample]) -> dict[str, Any]:
    """Return the entry of the right answers' bits per byte, from the same log-likelihoods: it moves before accuracy does."""
    bits, sizes = [], []
    for sample in samples:
        right = gold(sample)
        bits.append(-float(sample["filtered_resps"][right][0]) / math.log(2))
        sizes.append(float(len(sample["arguments"][right][1].encode("utf-8"))))
    return {
        "metric": "gold_bits_per_byte",
        "value": math.fsum(bits) / math.fsum(sizes),
        "stderr": ratio_stderr(bits, sizes),
        "n": len(samples),
        "chance": None,
        "constant": None,
        "higher_is_better": False,
        "unparsed": None,
        "label_shares": None,
    }


def predicted_labels(samples: Sequence[Sample], metric: str, recipe: Mapping[str, Any]) -> list[str | None]:
    """Return the label that each answer gives by a metric, None where none can be read; an empty list where it has no labels.

    A choice's label is its text where all items have the same choices, else its letter by place.
    """
    if recipe["output_type"] == "multiple_choice":
        if metric not in ("acc", "acc_norm"):
            return []
        texts = {tuple(choice for _, choice in sample["arguments"]) for sample in samples}
        names = [text.strip() for text in texts.pop()] if len(texts) == 1 else None
        delimiter = len(recipe.get("target_delimiter", " "))
        places = [_preferred(sample, delimiter if metric == "acc_norm" else None) for sample in samples]
        return [names[place] if names else chr(ord("A") + place) for place in places]
    read = recipe.get("metadata", {}).get("label", {}).get(metric)
    return [read(sample["doc"], sample["filtered_resps"][0]) for sample in samples] if read else []


def _preferred(sample: Sample, delimiter: int | None) -> int:
    """Return the choice with the highest log-likelihood, by lm-eval's acc_norm by character without the delimiter where it is given."""
    values = [float(response[0]) for response in sample["filtered_resps"]]
    if delimiter is not None:
        values = [value / (len(choice) - delimiter) for value, (_, choice) in zip(values, sample["arguments"], strict=True)]
    return max(range(len(values)), key=values.__getitem__)


def shares(labels: Sequence[str], total: int) -> dict[str, float]:
    """Return the share of each label among `total` answers, by label."""
    return {label: count / total for label, count in sorted(Counter(labels).items())}


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
