"""Scores from lm-eval's results, and what stands beside each.

Standard error, chance, the majority-class baseline.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lm_eval.api.registry import get_aggregation

from zagreus.evaluation.rows import Sample, gold, item_values, loglikelihood
from zagreus.evaluation.spread import bootstrap_stderr, clustered_stderr, ratio_stderr, share_stderr


def task_scores(
    results: Mapping[str, Any],
    name: str,
    recipe: Mapping[str, Any],
    trivial: Mapping[str, float] | None = None,
) -> list[dict[str, Any]]:
    """Return one entry per metric.

    `metric, value, stderr, n, chance, majority_baseline, higher_is_better, unparsed, label_shares`.

    Args:
        results: lm-eval's for the task.
        name: of the task.
        recipe: its task file. Of `metadata`, `majority_baseline` gives for a metric that compares
            an answer with a label the column of that label (the baseline always answers the most
            frequent label), `label` the function that reads the label from an answer, or None
            where there is none in it, `chance` the function that says of a document what a guess
            gets; `cells` the columns for whose values accuracy is given too; `cluster: id` says
            that items whose ids are alike up to the first "/" are alike.
        trivial: the best trivial policy's score by metric, where there are such policies.
    """
    samples, output_type = results["samples"][name], recipe["output_type"]
    metadata = recipe.get("metadata", {})
    scores = []
    for metric, higher_is_better in results["higher_is_better"][name].items():
        keys = [key for key in results["results"][name] if key.split(",")[0] == metric]
        for key in keys:
            chance, baseline = None, (trivial or {}).get(metric)
            value = results["results"][name][key]
            stderr = results["results"][name].get(key.replace(metric, f"{metric}_stderr", 1))
            if metric == "bits_per_byte":
                sizes = [sample["doc"]["bytes"] for sample in samples]
                stderr = ratio_stderr(
                    [-loglikelihood(sample) / math.log(2) for sample in samples], sizes
                )
                baseline = math.fsum(sample["doc"]["unigram_bits"] for sample in samples) / sum(
                    sizes
                )
            else:
                values = [sample.get(metric) for sample in samples]
                stderr = _item_stderr(
                    values, samples, metadata, stderr, _aggregation(recipe, metric)
                )
            if output_type == "multiple_choice":
                rights = [gold(sample) for sample in samples]
                if metric.startswith("acc"):
                    chance = math.fsum(1 / len(sample["arguments"]) for sample in samples) / len(
                        samples
                    )
                if (
                    len(set(rights)) > 1
                    # where the right choice always has the same place, the model does not see the
                    # places
                ):
                    baseline = (
                        most_common_share(rights)
                        if metric.startswith("acc")
                        else _best_label(rights, _aggregation(recipe, metric))
                    )
            elif metric in metadata.get("majority_baseline", {}):
                baseline = most_common_share(
                    [sample["doc"][metadata["majority_baseline"][metric]] for sample in samples]
                )
            if metric in metadata.get("chance", {}):
                chance = math.fsum(
                    metadata["chance"][metric](sample["doc"]) for sample in samples
                ) / len(samples)
            labels = predicted_labels(samples, metric, recipe)
            scores.append(
                {
                    "metric": metric,
                    "value": float(value),
                    "stderr": float(stderr)
                    if isinstance(stderr, int | float) and not math.isnan(stderr)
                    else None,
                    "n": len(samples),
                    "chance": chance,
                    "majority_baseline": baseline,
                    "higher_is_better": higher_is_better,
                    "unparsed": labels.count(None) / len(samples)
                    if labels and output_type != "multiple_choice"
                    else None,
                    "label_shares": shares(
                        [label for label in labels if label is not None], len(samples)
                    )
                    if labels
                    else None,
                }
            )
    if output_type == "multiple_choice":
        scores.append(gold_bits(samples))
    if "cells" in metadata:
        scores += cell_scores(samples, metadata["cells"])
    return scores


def cell_scores(samples: Sequence[Sample], columns: Sequence[str]) -> list[dict[str, Any]]:
    """Return an entry of accuracy for the items of each combination of the columns' values.

    Its metric names the values: `acc_length_512_depth_50`.
    """
    cells: dict[str, list[Sample]] = {}
    for sample in samples:
        name = "_".join(f"{column}_{sample['doc'][column]}" for column in columns)
        cells.setdefault(f"acc_{name}", []).append(sample)
    return [
        {
            "metric": metric,
            "value": math.fsum(float(sample["acc"]) for sample in group) / len(group),
            "stderr": share_stderr([float(sample["acc"]) for sample in group]),
            "n": len(group),
            "chance": math.fsum(1 / len(sample["arguments"]) for sample in group) / len(group),
            "majority_baseline": None,
            "higher_is_better": True,
            "unparsed": None,
            "label_shares": None,
        }
        for metric, group in cells.items()
    ]


def _aggregation(recipe: Mapping[str, Any], metric: str) -> Callable[[Sequence[Any]], float] | None:
    """Return the function by which a task file makes a metric of its items' values.

    None where it leaves that to lm-eval.
    """
    how = next(
        (
            entry.get("aggregation")
            for entry in recipe.get("metric_list", ())
            if entry["metric"] == metric
        ),
        None,
    )
    return get_aggregation(how) if isinstance(how, str) else how


def _best_label(
    rights: Sequence[int], aggregate: Callable[[Sequence[Any]], float] | None
) -> float | None:
    """Return the best that always the same choice gets by a metric that is made of pairs (right
    choice, its choice), as F1 is.
    """
    if aggregate is None:
        return None
    return max(
        float(aggregate([(right, choice) for right in rights])) for choice in sorted(set(rights))
    )


def _item_stderr(
    values: Sequence[Any],
    samples: Sequence[Sample],
    metadata: Mapping[str, Any],
    harness: Any,
    aggregate: Callable[[Sequence[Any]], float] | None,
) -> Any:
    """Return the standard error over a metric's values by item.

    Clustered where the task file says so, lm-eval's own where it has one, or
    by drawing items anew for what is no mean.

    A value that is a list (IFEval's, one for each instruction of a prompt) is a cluster.
    """
    if all(isinstance(value, list) for value in values):
        return ratio_stderr(
            [float(sum(value)) for value in values], [float(len(value)) for value in values]
        )
    if metadata.get("cluster") == "id" and all(isinstance(value, int | float) for value in values):
        return clustered_stderr(
            [float(value) for value in values],
            [str(sample["doc"]["id"]).partition("/")[0] for sample in samples],
        )
    if (
        not isinstance(harness, int | float)
        and aggregate is not None
        and all(isinstance(value, tuple) for value in values)
    ):
        return bootstrap_stderr(values, aggregate)
    return harness


def gold_bits(samples: Sequence[Sample]) -> dict[str, Any]:
    """Return the entry of the right answers' bits per byte, from the same log-likelihoods.

    It moves before accuracy does.
    """
    values = [item_values(sample, "multiple_choice")["gold_bits_per_byte"] for sample in samples]
    bits, sizes = [bits for bits, _ in values], [size for _, size in values]
    return {
        "metric": "gold_bits_per_byte",
        "value": math.fsum(bits) / math.fsum(sizes),
        "stderr": ratio_stderr(bits, sizes),
        "n": len(samples),
        "chance": None,
        "majority_baseline": None,
        "higher_is_better": False,
        "unparsed": None,
        "label_shares": None,
    }


def predicted_labels(
    samples: Sequence[Sample], metric: str, recipe: Mapping[str, Any]
) -> list[str | None]:
    """Return the label that each answer gives by a metric, None where none can be read.

    An empty list where it has no labels.

    A choice's label is its text where all items have the same choices, else its letter by place.
    """
    if recipe["output_type"] == "multiple_choice":
        if metric not in ("acc", "acc_norm"):
            return []
        texts = {tuple(choice for _, choice in sample["arguments"]) for sample in samples}
        names = [text.strip() for text in texts.pop()] if len(texts) == 1 else None
        delimiter = len(recipe.get("target_delimiter", " "))
        places = [
            _preferred(sample, delimiter if metric == "acc_norm" else None) for sample in samples
        ]
        return [names[index] if names else chr(ord("A") + index) for index in places]
    read = recipe.get("metadata", {}).get("label", {}).get(metric)
    return [read(sample["doc"], sample["filtered_resps"][0]) for sample in samples] if read else []


def _preferred(sample: Sample, delimiter: int | None) -> int:
    """Return the choice with the highest log-likelihood, by lm-eval's acc_norm by character without
    the delimiter where it is given.
    """
    values = [float(response[0]) for response in sample["filtered_resps"]]
    if delimiter is not None:
        values = [
            value / (len(choice) - delimiter)
            for value, (_, choice) in zip(values, sample["arguments"], strict=True)
        ]
    return max(range(len(values)), key=values.__getitem__)


def shares(labels: Sequence[str], total: int) -> dict[str, float]:
    """Return the share of each label among `total` answers, by label."""
    return {label: count / total for label, count in sorted(Counter(labels).items())}


def most_common_share(labels: Sequence[Any]) -> float:
    """Return the share of the label that is there most often.

    The score of the majority-class baseline.
    """
    return Counter(labels).most_common(1)[0][1] / len(labels)
