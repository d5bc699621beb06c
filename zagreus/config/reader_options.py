"""The options of readers and of quality filters, checked before a job runs.

Standard library only.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

TEXT, TEXTS, SWITCH = "text", "a list of texts", "true or false"
COUNT, FROM_0, FROM_2 = (
    "a whole number of at least 1",
    "a whole number of at least 0",
    "a whole number of at least 2",
)
NUMBER, PAIR = "a number of at least 0", "two whole numbers, the smaller first"
TOGETHER, LISTS = "template, call or sentence", "lists of texts by name"
SHARES = "a list of pairs, each of a whole number of at least 1 and a number of at least 0"

# Reader: its options, what each is, and which must be given. The modules of zagreus/data/readers
# and zagreus/data/chat explain them.
READERS: dict[str, dict[str, str]] = {
    "bible": {"translation": TEXT},
    "homeassistant_strings": {"language": TEXT},
    "python_code": {},
    "recipes": {"language": TEXT},
    "wiki_summaries": {"language": TEXT},
    "chatterbot": {"languages": TEXTS, "without": TEXTS},
    "chitchat": {"turns": FROM_2},
    "chitchat_preferences": {"good": NUMBER, "bad": NUMBER, "characters": PAIR},
    "intents": {
        "languages": TEXTS,
        "intents": TEXTS,
        "slots": LISTS,
        "draws": COUNT,
        "sentences": COUNT,
        "together": TOGETHER,
        "tools": FROM_0,
        "turns": COUNT,
    },
}
REQUIRED = {
    "bible": ["translation"],
    "homeassistant_strings": ["language"],
    "recipes": ["language"],
    "wiki_summaries": ["language"],
}
REQUIRED |= {"chatterbot": ["languages"], "intents": ["languages"]}
# datatrove 0.9: the parameters of its filters that can stand in a configuration.
FILTERS: dict[str, dict[str, str]] = {
    "gopher_quality": {
        **dict.fromkeys(["min_doc_words", "max_doc_words", "min_stop_words"], FROM_0),
        **dict.fromkeys(
            [
                "min_avg_word_length",
                "max_avg_word_length",
                "max_symbol_word_ratio",
                "max_bullet_lines_ratio",
            ],
            NUMBER,
        ),
        **dict.fromkeys(["max_ellipsis_lines_ratio", "max_non_alpha_words_ratio"], NUMBER),
        "stop_words": TEXTS,
        "language": TEXT,
    },
    "gopher_repetition": {
        **dict.fromkeys(
            ["dup_line_frac", "dup_para_frac", "dup_line_char_frac", "dup_para_char_frac"], NUMBER
        ),
        "top_n_grams": SHARES,
        "dup_n_grams": SHARES,
        "language": TEXT,
    },
    "fineweb_quality": {
        **dict.fromkeys(
            ["line_punct_thr", "char_duplicates_ratio", "new_line_ratio", "short_line_thr"], NUMBER
        ),
        "short_line_length": FROM_0,
        "line_punct_exclude_zero": SWITCH,
        "stop_chars": TEXTS,
        "language": TEXT,
    },
}
# What datatrove compares without a look at null first; null in any other option switches its rule
# off.
NEVER_NULL = {"top_n_grams", "dup_n_grams", "language", *FILTERS["fineweb_quality"]} - {
    "stop_chars"
}


def reader_problems(reader: str, options: Mapping[str, Any], where: str) -> Iterator[str]:
    """Yield what is wrong with a reader's options, one line each.

    `where` is the place of the options.
    """
    yield from _problems(READERS[reader], options, where)
    for name in REQUIRED.get(reader, ()):
        if name not in options:
            yield f"{where}: no '{name}', the reader {reader} needs it"


def filter_problems(name: str, options: Mapping[str, Any], where: str) -> Iterator[str]:
    """Yield what is wrong with a quality filter's options, one line each.

    Null switches a rule of a filter off.
    """
    known = FILTERS[name]
    active = {
        key: value
        for key, value in options.items()
        if value is not None or key in NEVER_NULL or key not in known
    }
    yield from _problems(known, active, where)


def _problems(known: Mapping[str, str], options: Mapping[str, Any], where: str) -> Iterator[str]:
    for name, value in options.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            expected = f"expected one of {', '.join(known)}" if known else "there are none"
            yield f"{where}: unknown option '{name}'; " + (
                f"did you mean '{near[0]}'?" if near else expected
            )
        elif not _fits(known[name], value):
            yield (
                f"{where}.{name}: found {'null' if value is None else repr(value)}, expected "
                f"{known[name]}"
            )


def _fits(expected: str, value: Any) -> bool:
    if expected == TEXT:
        return isinstance(value, str)
    if expected == TEXTS:
        return isinstance(value, list) and all(isinstance(item, str) for item in value)
    if expected == SWITCH:
        return isinstance(value, bool)
    if expected == NUMBER:
        return type(value) in (int, float) and value >= 0
    if expected == PAIR:
        return (
            isinstance(value, list)
            and [type(item) for item in value] == [int, int]
            and 0 <= value[0] <= value[1]
        )
    if expected == LISTS:
        return isinstance(value, dict) and all(_fits(TEXTS, item) for item in value.values())
    if expected == TOGETHER:
        return value in ("template", "call", "sentence")
    if expected == SHARES:
        return isinstance(value, list) and all(_is_share(item) for item in value)
    return type(value) is int and value >= int(expected.rsplit(" ", 1)[1])


def _is_share(item: Any) -> bool:
    """Return whether a value is a length of n-grams and their share."""
    return (
        isinstance(item, list)
        and len(item) == 2
        and _fits(COUNT, item[0])
        and _fits(NUMBER, item[1])
    )
