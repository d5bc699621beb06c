"""The options of readers and of quality filters, checked before a job runs. Standard library only."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

TEXT, COUNT, TEXTS, PAIR = "text", "a whole number of at least 1", "a list of texts", "two whole numbers, the smaller first"
NUMBER, SWITCH = "a number", "true or false"

# Reader: its options, what each is, and which must be given. The modules of zagreus/data/readers and zagreus/data/chat explain them.
READERS: dict[str, dict[str, str]] = {
    "bible": {"translation": TEXT},
    "homeassistant_strings": {"language": TEXT},
    "python_code": {},
    "recipes": {"language": TEXT},
    "wiki_summaries": {"language": TEXT},
    "chatterbot": {"languages": TEXTS, "without": TEXTS},
    "chitchat": {"turns": COUNT},
    "chitchat_preferences": {"good": COUNT, "bad": COUNT, "characters": PAIR},
    "intents": {"languages": TEXTS, "draws": COUNT, "tools": COUNT},
}
REQUIRED = {"bible": ["translation"], "homeassistant_strings": ["language"], "recipes": ["language"], "wiki_summaries": ["language"]}
REQUIRED |= {"chatterbot": ["languages"], "intents": ["languages"]}
# datatrove 0.9: the parameters of its filters that can stand in a configuration.
FILTERS: dict[str, dict[str, str]] = {
    "gopher_quality": {
        **dict.fromkeys(["min_doc_words", "max_doc_words", "min_stop_words"], COUNT),
        **dict.fromkeys(["min_avg_word_length", "max_avg_word_length", "max_symbol_word_ratio", "max_bullet_lines_ratio"], NUMBER),
        **dict.fromkeys(["max_ellipsis_lines_ratio", "max_non_alpha_words_ratio"], NUMBER),
        "stop_words": TEXTS,
        "language": TEXT,
    },
    "gopher_repetition": {
        **dict.fromkeys(["dup_line_frac", "dup_para_frac", "dup_line_char_frac", "dup_para_char_frac"], NUMBER),
        "top_n_grams": "a list",
        "dup_n_grams": "a list",
        "language": TEXT,
    },
    "fineweb_quality": {
        **dict.fromkeys(["line_punct_thr", "char_duplicates_ratio", "new_line_ratio", "short_line_thr"], NUMBER),
        "short_line_length": COUNT,
        "line_punct_exclude_zero": SWITCH,
        "stop_chars": TEXTS,
        "language": TEXT,
    },
}


def reader_problems(reader: str, options: Mapping[str, Any], where: str) -> Iterator[str]:
    """Yield what is wrong with a reader's options, one line each; `where` is the place of the options."""
    yield from _problems(READERS[reader], options, where)
    for name in REQUIRED.get(reader, ()):
        if name not in options:
            yield f"{where}: no '{name}', the reader {reader} needs it"


def filter_problems(name: str, options: Mapping[str, Any], where: str) -> Iterator[str]:
    """Yield what is wrong with a quality filter's options, one line each. Null switches a rule of a filter off."""
    yield from _problems(
        FILTERS[name], {key: value for key, value in options.items() if value is not None or key not in FILTERS[name]}, where
    )


def _problems(known: Mapping[str, str], options: Mapping[str, Any], where: str) -> Iterator[str]:
    for name, value in options.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            expected = f"expected one of {', '.join(known)}" if known else "there are none"
            yield f"{where}: unknown option '{name}'; " + (f"did you mean '{near[0]}'?" if near else expected)
        elif not _fits(known[name], value):
            yield f"{where}.{name}: found {value!r}, expected {known[name]}"


def _fits(expected: str, value: Any) -> bool:
    whole = isinstance(value, int) and not isinstance(value, bool)
    match expected:
        case "text":
            return isinstance(value, str)
        case "a list":
            return isinstance(value, list)
        case "a list of texts":
            return isinstance(value, list) and all(isinstance(item, str) for item in value)
        case "true or false":
            return isinstance(value, bool)
        case "a number":
            return whole or isinstance(value, float)
        case "two whole numbers, the smaller first":
            whole_pair = isinstance(value, list) and len(value) == 2 and all(type(item) is int for item in value)
            return whole_pair and 0 <= value[0] <= value[1]
        case _:
            return whole and value >= 1
