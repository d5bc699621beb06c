"""Answers to the nine Portuguese tasks (recipes/evaluate/port/), read and judged as
lm-evaluation-harness-pt does.

E. A. S. Garcia's fork of lm-eval 0.4.1 has them written in words and reads the answer from the
words by three filters: `find_choices` a letter, `find_similar_label` one of a few labels,
`number_filter` a number. What cannot be read counts as wrong. This is a port: the fork's rules in
our code, its own files are not here (docs/evaluation.md, "The Portuguese tasks").
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from nltk import edit_distance

from zagreus.errors import InputError

INVALID = "[invalid]"
# Where a letter stands, the first that fits: after a word that announces it, before a full stop or
# the like, at the end, anywhere.
LETTERS = (
    r"(?:[Ll]etra|[Aa]lternativa|[Rr]esposta|[Rr]esposta [Cc]orreta|[Rr]esposta [Cc]orreta "
    r"e|[Oo]pcao):? ([{}])\b",
    r"\b([{}]) ?[.):-]",
    r"\b([{}])$",
    r"\b([{}])\b",
)
LIKENESS = 0.5  # of a word to a label: 1 less the edit distance by the longer one's length
LOWEST, HIGHEST = 1.0, 5.0  # degrees of similarity; what is beyond is brought back to the end
UNREAD = 5.0  # what an answer without a number counts as

NO_YES = {"0": "Não", "1": "Sim"}
SENTIMENTS = {"Positive": "Positivo", "Neutral": "Neutro", "Negative": "Negativo"}


def plain(text: str) -> str:
    """Return a text without accents."""
    return "".join(
        character
        for character in unicodedata.normalize("NFKD", text)
        if not unicodedata.combining(character)
    )


def read_letter(response: str, letters: Sequence[str]) -> str:
    """Return the letter that an answer gives, INVALID where it gives none."""
    text = plain(" ".join(response.split()))
    if text in list(letters):
        return text
    for pattern in LETTERS:
        match = re.search(pattern.format("".join(letters)), text)
        if match:
            return match.group(1)
    return INVALID


def read_label(response: str, labels: Sequence[str]) -> str:
    """Return the label that an answer gives.

    The one that it is, the only one that it holds, or the one that it begins most like.
    """
    known, said = [plain(label.lower()) for label in labels], plain(response.strip().lower())
    if said in known:
        return labels[known.index(said)]
    if not said:
        return INVALID
    held = [index for index, label in enumerate(known) if label in said]
    if len(held) == 1:
        return labels[held[0]]
    word = re.split(r"[.,;:()\[\]\n]", said)[0][: max(map(len, known))]
    likeness = [1 - edit_distance(word, label) / max(len(word), len(label)) for label in known]
    best = max(likeness)
    return labels[likeness.index(best)] if best >= LIKENESS else INVALID


def read_number(response: str) -> float | None:
    """Return the number that an answer gives, with a decimal comma or point, between LOWEST and
    HIGHEST; None where it has no digit.
    """
    digits = re.sub(r"[^0-9.]", "", response.replace(",", "."))
    point = re.search(r"[0-9]\.[0-9]", digits)
    whole, part = (
        (digits[: point.start() + 1], digits[point.start() + 2 :]) if point else (digits, "")
    )
    number = whole.replace(".", "") + ("." + part.replace(".", "") if part else "")
    return min(max(float(number), LOWEST), HIGHEST) if number else None


def exam_results(document: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """Return whether an answer gives the right letter.

    Raise `InputError` where no choice has the right letter.
    """
    if document["answerKey"] not in document["choices"]["label"]:
        raise InputError("the gold is none of the choices")
    return {
        "acc": float(read_letter(results[0], document["choices"]["label"]) == document["answerKey"])
    }


def exam_label(document: Mapping[str, Any], response: str) -> str | None:
    """Return the letter that an answer gives, None where it gives none."""
    return _known(read_letter(response, document["choices"]["label"]))


def exam_chance(document: Mapping[str, Any]) -> float:
    """Return what a guess gets."""
    return 1 / len(document["choices"]["label"])


def label_results(
    document: Mapping[str, Any], results: Sequence[str], column: str, names: Mapping[str, str]
) -> dict[str, Any]:
    """Return whether an answer gives the right label, and the pair (right label, its label) that
    macro-F1 is made of.
    """
    label = document[column]
    right = names[str(int(label)) if isinstance(label, bool) else str(label)]
    predicted = read_label(results[0], list(names.values()))
    return {"acc": float(right == predicted), "f1_macro": (right, predicted)}


def label_of(document: Mapping[str, Any], response: str, names: Mapping[str, str]) -> str | None:
    """Return the label that an answer gives, None where it gives none."""
    return _known(read_label(response, list(names.values())))


entailment_results = partial(label_results, column="entailment_judgment", names=NO_YES)
binary_results = partial(label_results, column="label", names=NO_YES)
binary_label = partial(label_of, names=NO_YES)
sentiment_results = partial(label_results, column="label", names=SENTIMENTS)
sentiment_label = partial(label_of, names=SENTIMENTS)


def similarity_target(document: Mapping[str, Any]) -> str:
    """Return a degree of similarity as it is written in Portuguese: 3,5."""
    return f"{document['relatedness_score']:.1f}".replace(".", ",")


def similarity_results(
    document: Mapping[str, Any], results: Sequence[str]
) -> dict[str, tuple[float, float]]:
    """Return the pair (right degree, the answer's) that the correlation is made of."""
    predicted = read_number(results[0])
    return {
        "pearson": (
            float(document["relatedness_score"]),
            UNREAD if predicted is None else predicted,
        )
    }


def similarity_label(document: Mapping[str, Any], response: str) -> str | None:
    """Return the degree that an answer gives, to the whole number, None where it gives none."""
    degree = read_number(response)
    return None if degree is None else str(round(degree))


def _known(read: str) -> str | None:
    return None if read == INVALID else read
