"""What policies score that need no model: a score below theirs says nothing of a model."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence

from lm_eval.api.task import ConfigurableTask
from lm_eval.defaults import DEFAULT_RANDOM_SEED

POLICIES: Mapping[str, Callable[[str], str]] = {
    "empty": lambda prompt: "",
    "ok": lambda prompt: "ok",
    "echo": lambda prompt: prompt,
    "lower-cased echo without commas": lambda prompt: prompt.lower().replace(",", ""),
}


def trivial_scores(
    task: ConfigurableTask, column_or_answers: str | Sequence[str]
) -> dict[str, dict[str, float]]:
    """Return each policy's score by metric, computed by the task's own checkers.

    Args:
        task: generate_until.
        column_or_answers: the documents' column with what the user asks, which POLICIES answer; or
            the answers, of which a policy always gives one.
    """
    scores = {}
    for policy in POLICIES if isinstance(column_or_answers, str) else column_or_answers:
        random.seed(
            DEFAULT_RANDOM_SEED
        )  # IFEval's checkers draw a number where a prompt's own is 0 or missing
        answers = [
            POLICIES[policy](document[column_or_answers])
            if isinstance(column_or_answers, str)
            else policy
            for document in task.eval_docs
        ]
        results = [
            task.process_results(document, [answer])
            for document, answer in zip(task.eval_docs, answers, strict=True)
        ]
        scores[policy] = {
            metric: float(total([result[metric] for result in results]))
            for metric, total in task.aggregation().items()
        }
    return scores


def best_trivial(
    task: ConfigurableTask, column_or_answers: str | Sequence[str]
) -> dict[str, float]:
    """Return by metric what the best of the policies scores."""
    scores = trivial_scores(task, column_or_answers).values()
    return {
        metric: max(policy_scores[metric] for policy_scores in scores)
        for metric in next(iter(scores))
    }
