"""Metrics that the task files in recipes/evaluate name (`process_results`): one value per item, aggregated by lm-eval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import langdetect

from zagreus.evaluation.instructions import called_tool

# What the model writes before it ends its turn comes from lm-eval without the token that ends it; `TurnModel` puts this in its place.
END_OF_TURN = "\x03"

# langdetect draws at random unless it is given a seed.
langdetect.DetectorFactory.seed = 0
_CODES = {"eng": "en", "ita": "it", "spa": "es", "por": "pt", "fra": "fr"}


def heldout_results(document: Mapping[str, Any], results: Sequence[float]) -> dict[str, tuple[float, int]]:
    """Return (log-likelihood in nats, bytes) of a document; lm-eval's aggregation divides the sums and turns nats into bits."""
    return {"bits_per_byte": (results[0], document["bytes"])}


def answer_results(document: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """Return whether an answer ends, holds a letter or digit, and is in the language asked for."""
    text, ended = _answer(results)
    return {
        "ends_turn": float(ended),
        "not_empty": float(any(character.isalnum() for character in text)),
        "in_language": float(_language(text) == document["language"]),
    }


def tool_results(document: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """Return whether an answer ends, holds a well-formed call, and calls the right tool."""
    text, ended = _answer(results)
    tool = called_tool(text)
    return {"ends_turn": float(ended), "valid_call": float(tool is not None), "right_tool": float(tool == document["tool"])}


def summary_results(document: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """Return ROUGE-1's F measure (Lin, 2004) of a summary, 0 to 1, as the library evaluate's `rouge` gives it: words of a to z and digits,
    lower case, not stemmed."""
    from rouge_score.rouge_scorer import RougeScorer  # here: it imports nltk, which few tasks need

    return {"rouge1": RougeScorer(["rouge1"]).score(document["target"], results[0])["rouge1"].fmeasure}


def tool_label(document: Mapping[str, Any], response: str) -> str | None:
    """Return the tool that an answer calls, None where it holds no well-formed call."""
    return called_tool(_answer([response])[0])


def _answer(results: Sequence[str]) -> tuple[str, bool]:
    text, end, _ = results[0].partition(END_OF_TURN)
    return text, bool(end)


def _language(text: str) -> str | None:
    """Return the likeliest of the languages that langdetect names, in ISO 639-3, or None where there is no text to tell by."""
    try:
        found = langdetect.detect(text)
    except langdetect.LangDetectException:
        return None
    return next((code for code, short in _CODES.items() if short == found), found)
