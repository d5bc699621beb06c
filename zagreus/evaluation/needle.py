"""Needles: one sentence within a long text, and a question about the sentence at the text's end.

The text is made of held-out sentences. The needle names the magic word of something; the prompt
ends with the beginning of the same sentence. The choices are four words, of which only the needle
has one. So a model that finds the needle answers by copying, and another one is at chance.

After G. Kamradt, Needle In A Haystack (2023): accuracy by the length of the text and by the depth
of the needle. Nothing is drawn at random: all choices follow from hashes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from zagreus.errors import InputError
from zagreus.evaluation.choice import CHOICES, units
from zagreus.evaluation.items import Item, rank
from zagreus.manifest import read_manifest

NEEDLES = {
    "deu": "Das Zauberwort von {key} ist {value}.",
    "eng": "The magic word of {key} is {value}.",
    "fra": "Le mot magique de {key} est {value}.",
    "ita": "La parola magica di {key} è {value}.",
    "por": "A palavra mágica de {key} é {value}.",
    "spa": "La palabra mágica de {key} es {value}.",
}
_WORD = re.compile(r"[^\W\d_]+")
# Words of so many letters, that the text has so often at least, are keys and choices.
LETTERS = range(4, 11)
OCCURRENCES = 2
# Between two sentences.
SEPARATOR = "\n"


@dataclass(frozen=True)
class Sentence:
    """A sentence of the held-out text."""

    text: str
    tokens: int
    """Tokens of the sentence and of the line break after it."""
    words: frozenset[str]
    """Its words in lower case."""


def needle_items(
    documents: Sequence[Item], tokenizer: Path, entry: Mapping[str, Any], name: str
) -> list[Item]:
    """Return the items: `id, length, depth, query, choices, gold`.

    Args:
        documents: held-out documents of one language, `id` and `text`.
        tokenizer: the manifest of the run's tokenizer, which counts the tokens.
        entry: `language`, `lengths` in tokens, `depths` in per cent, `items` of each of both.
        name: the data set, for messages.

    Raises:
        InputError: no sentence in that language, or too little text for a length.
    """
    if entry["language"] not in NEEDLES:
        raise InputError(
            f"{name}: language '{entry['language']}' has no needle, expected one of "
            f"{', '.join(NEEDLES)}"
        )
    read_manifest(tokenizer, "tokenizer")
    haystack = Haystack(documents, tokenizer.with_name("tokenizer.json"))
    items: list[Item] = []
    for length in entry["lengths"]:
        for depth in entry["depths"]:
            for number in range(entry["items"]):
                gold = len(items) % CHOICES
                item = haystack.item(NEEDLES[entry["language"]], length, depth, number, gold, name)
                items.append(item)
    return items


class Haystack:
    """Held-out sentences, and the words for needles."""

    def __init__(self, documents: Sequence[Item], tokenizer: Path) -> None:
        self._tokenizer = Tokenizer.from_file(str(tokenizer))
        self._documents = {
            document["id"]: [self._sentence(text) for text in units(document["text"])[0]]
            for document in documents
        }
        counts = Counter(
            word
            for sentences in self._documents.values()
            for sentence in sentences
            for word in sentence.words
        )
        self._words = sorted(
            word for word, count in counts.items() if len(word) in LETTERS and count >= OCCURRENCES
        )

    def item(self, needle: str, length: int, depth: int, number: int, gold: int, name: str) -> Item:
        """Return an item whose prompt and choice have at most `length` tokens, the begin token
        among them.
        """
        identity = f"{length}/{depth}/{number}"
        filler = self._filler(identity, length, name)
        used = frozenset[str]().union(*(sentence.words for sentence in filler))
        key, right, *wrong = self._chosen(identity, used, name)
        planted = needle.format(key=key, value=right)
        question = needle.format(key=key, value="\0").partition(" \0")[0]
        choices = [f" {word}" for word in [*wrong[:gold], right, *wrong[gold:]]]
        lines = [sentence.text for sentence in filler]
        # Room for the needle, the question, a choice and the begin token.
        while lines and self._longest([*lines, planted, question], choices) >= length:
            lines.pop()
        lines.insert(round(depth / 100 * len(lines)), planted)
        return {
            "id": identity,
            "length": length,
            "depth": depth,
            "query": SEPARATOR.join([*lines, question]),
            "choices": choices,
            "gold": gold,
        }

    def _longest(self, lines: Sequence[str], choices: Sequence[str]) -> int:
        """Return the most tokens of the lines with a choice after them."""
        text = SEPARATOR.join(lines)
        return max(self._tokens(text + choice) for choice in choices)

    def _filler(self, identity: str, length: int, name: str) -> list[Sentence]:
        """Return whole sentences of at most `length` tokens, of documents in an order of the item's
        own.
        """
        filler: list[Sentence] = []
        tokens = 0
        for sentence in self._ordered(identity):
            tokens += sentence.tokens
            if tokens > length:
                return filler
            filler.append(sentence)
        raise InputError(
            f"{name}: the held-out text has {tokens:,} tokens, expected more than {length:,}; "
            "raise the sources' 'heldout' share"
        )

    def _ordered(self, identity: str) -> Iterator[Sentence]:
        for document in sorted(self._documents, key=lambda key: rank(identity, key)):
            yield from self._documents[document]

    def _chosen(self, identity: str, used: frozenset[str], name: str) -> list[str]:
        """Return a key and the words of the choices, the right one first, none of the text's."""
        free = [word for word in self._words if word not in used]
        if len(free) <= CHOICES:
            raise InputError(
                f"{name}: {len(free)} words of the held-out text are not in item '{identity}', "
                f"expected {CHOICES + 1}; raise the sources' 'heldout' share"
            )
        return sorted(free, key=lambda word: rank(identity, word))[: CHOICES + 1]

    def _sentence(self, text: str) -> Sentence:
        words = frozenset(_WORD.findall(text.lower()))
        return Sentence(text, self._tokens(text + SEPARATOR), words)

    def _tokens(self, text: str) -> int:
        return len(self._tokenizer.encode(text, add_special_tokens=False).ids)
