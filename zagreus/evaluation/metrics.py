"""Metrics that the task files in recipes/evaluate name (`process_results`).

One value per item, aggregated by lm-eval.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import langdetect
import langdetect.detector_factory

from zagreus.errors import InputError
from zagreus.evaluation.agentic import case_results
from zagreus.evaluation.bfcl import bfcl_results
from zagreus.evaluation.positions import position_results
from zagreus.evaluation.tool_calls import END_OF_TURN, answer_text, tool_label, tool_results
from zagreus.languages import find_language

# Task files name all metrics here.
__all__ = [
    "END_OF_TURN",
    "answer_results",
    "bfcl_results",
    "case_results",
    "detected_code",
    "heldout_results",
    "position_results",
    "summary_results",
    "tool_label",
    "tool_results",
]

# langdetect draws at random unless it is given a seed.
langdetect.DetectorFactory.seed = 0
# What langdetect calls languages for which it has another code than ISO 639-1.
_DETECTED = {"nob": "no", "nno": "no", "fil": "tl"}


def heldout_results(
    document: Mapping[str, Any], results: Sequence[float]
) -> dict[str, tuple[float, int]]:
    """Return (log-likelihood in nats, bytes) of a document.

    Lm-eval's aggregation divides the sums and turns nats into bits.
    """
    return {"bits_per_byte": (results[0], document["bytes"])}


def answer_results(document: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """Return whether an answer ends, holds a letter or digit, and is in the language asked for.

    Raises:
        InputError: the language is unknown, or one that langdetect does not tell.
    """
    text, ended = answer_text(results)
    expected = detected_code(document["language"])
    return {
        "ends_turn": float(ended),
        "not_empty": float(any(character.isalnum() for character in text)),
        "in_language": float(_language(text) == expected),
    }


def summary_results(document: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """Return ROUGE-1's F measure (Lin, 2004) of a summary, 0 to 1, as the library evaluate's
    `rouge` gives it: words of a to z and digits,
    lower case, not stemmed."""
    from rouge_score.rouge_scorer import RougeScorer  # here: it imports nltk, which few tasks need

    return {
        "rouge1": RougeScorer(["rouge1"]).score(document["target"], results[0])["rouge1"].fmeasure
    }


@cache
def detected_code(language: str) -> str:
    """Return the code by which langdetect names a language of ISO 639-3.

    Raise `InputError` where langdetect does not tell the language.
    """
    code = _DETECTED.get(language) or find_language(language).two
    langdetect.detector_factory.init_factory()
    known = {
        supported.partition("-")[0]
        for supported in langdetect.detector_factory._factory.get_lang_list()
    }
    if code not in known:
        raise InputError(
            f"langdetect does not tell the language '{language}', expected a task file without "
            "'in_language'"
        )
    return code


def _language(text: str) -> str | None:
    """Return langdetect's code of the likeliest language, None where there is no text to tell by.

    Chinese is `zh` in either script.
    """
    try:
        return langdetect.detect(text).partition("-")[0]
    except langdetect.LangDetectException:
        return None
