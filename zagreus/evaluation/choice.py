"""Multiple choice made from documents held out.

What comes next, or which line is the translation.

Four choices, of which the wrong ones come from other held-out documents of the same source and
are about as long as the right one. Everything follows from hashes of the documents' ids: no random
state, the same items on every machine.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterator, Mapping, Sequence

from zagreus.errors import InputError
from zagreus.evaluation.items import Item, rank, take

CHOICES = 4
# Shorter lines say too little to be told apart, longer ones are several sentences.
CHARACTERS = range(25, 161)
CONTEXT = 160  # characters of what comes before
CANDIDATES = 24  # lines nearest in length among which the wrong choices are drawn
WINDOW = 200  # lines shorter and longer than the right one that are looked at for them

_SENTENCE_END = re.compile(r"(?<=[.!?;])\s+")


def units(text: str) -> tuple[list[str], str]:
    """Return the lines of a text (or its sentences, where it is one paragraph) and what stands
    between them.
    """
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    if len(lines) >= CHOICES:
        return lines, "\n"
    return [sentence for line in lines for sentence in _SENTENCE_END.split(line)], " "


def next_items(documents: Sequence[Item], limit: int | None, name: str) -> list[Item]:
    """Return items that ask for the line or sentence that comes next.

    Args:
        documents: held-out documents of one language, `id` (`SOURCE:KEY`) and `text`.
        limit: how many items.
        name: the data set, for messages.
    """
    pools: dict[str, _Pool] = {}
    questions: list[Item] = []
    for source, group in _by_source(documents).items():
        pools[source] = _Pool(
            (document["id"], unit) for document in group for unit in units(document["text"])[0]
        )
        for document in group:
            parts, space = units(document["text"])
            for index in range(1, len(parts)):
                if len(parts[index]) in CHARACTERS:
                    query = _context(parts[:index], space)
                    questions.append(_question(document, index, query, parts[index], space))
    return _with_choices(take(questions, None, name), pools, limit, name)


def translation_items(
    sources: Sequence[Sequence[Item]], limit: int | None, name: str
) -> list[Item]:
    """Return items that show a line in one language and ask for the same line in another.

    Args:
        sources: the documents of two sources held out, aligned by KEY and line for line.
        limit: how many items.
        name: the data set, for messages.
    """
    if len(sources) != 2:
        raise InputError(
            f"{name}: {len(sources)} sources, expected two: the questions' language and the "
            "answers'"
        )
    originals, translations = (
        {_key(document): document for document in documents} for documents in sources
    )
    pool = _Pool(
        (document["id"], unit)
        for document in translations.values()
        for unit in units(document["text"])[0]
    )
    questions: list[Item] = []
    for key in sorted(originals.keys() & translations.keys()):
        document = translations[key]
        lines, translated = (originals[key]["text"].split("\n"), document["text"].split("\n"))
        if len(lines) != len(translated):
            continue  # the two editions divide this chapter differently
        for index, (line, answer) in enumerate(zip(lines, translated, strict=True)):
            if len(answer) in CHARACTERS and len(line) in CHARACTERS and line != answer:
                questions.append(_question(document, index, line.strip(), answer.strip(), "\n"))
    if not questions:
        raise InputError(
            f"{name}: no line of the two sources is aligned (ids SOURCE:KEY with the same KEY, "
            "and as many lines)"
        )
    return _with_choices(
        take(questions, None, name),
        {_source(item["document"]): pool for item in questions},
        limit,
        name,
    )


class _Pool:
    """The lines of a source by length, each with its document."""

    def __init__(self, lines: Iterator[tuple[str, str]]) -> None:
        self.lines = sorted(
            {(len(line), line, document) for document, line in lines if len(line) in CHARACTERS}
        )
        self.lengths = [length for length, _, _ in self.lines]

    def distractors(self, item: Item) -> list[str]:
        """Return the wrong choices of an item.

        Fewer than it takes when the other documents have none.
        """
        length = len(item["answer"])
        middle = bisect.bisect_left(self.lengths, length)
        window = self.lines[max(0, middle - WINDOW) : middle + WINDOW]
        near: dict[str, None] = {}
        for _, line, document in sorted(window, key=lambda entry: abs(entry[0] - length)):
            if document != item["document"] and line != item["answer"] and len(near) < CANDIDATES:
                near[line] = None
        return sorted(near, key=lambda line: rank(item["id"], line))[: CHOICES - 1]


def _question(document: Item, index: int, query: str, answer: str, space: str) -> Item:
    return {
        "id": f"{document['id']}#{index}",
        "document": document["id"],
        "query": query,
        "answer": answer,
        "space": space,
    }


def _with_choices(
    questions: Sequence[Item], pools: Mapping[str, _Pool], limit: int | None, name: str
) -> list[Item]:
    """Return items with their choices, the right one at each position equally often."""
    items: list[Item] = []
    for item in questions:
        if limit is not None and len(items) == limit:
            break
        wrong = pools[_source(item["document"])].distractors(item)
        if len(wrong) < CHOICES - 1:
            continue
        gold = (
            len(items) % CHOICES
        )  # the items come in the order of a hash: their position says nothing about them
        choices = [*wrong[:gold], item["answer"], *wrong[gold:]]
        items.append(
            {
                "id": item["id"],
                "document": item["document"],
                "query": item["query"],
                "choices": [item["space"] + choice for choice in choices],
                "gold": gold,
            }
        )
    if not items:
        raise InputError(
            f"{name}: too little text is held out for {CHOICES} choices; raise the sources' "
            "'heldout' share"
        )
    return items


def _context(before: Sequence[str], space: str) -> str:
    """Return the units before, as many whole ones from the end as fit into CONTEXT characters, at
    least one.
    """
    taken = [before[-1]]
    for unit in reversed(before[:-1]):
        if len(unit) + len(space) + sum(map(len, taken)) > CONTEXT:
            break
        taken.insert(0, unit)
    return space.join(taken)[-CONTEXT:]


def _by_source(documents: Sequence[Item]) -> dict[str, list[Item]]:
    groups: dict[str, list[Item]] = {}
    for document in documents:
        groups.setdefault(_source(document["id"]), []).append(document)
    return groups


def _source(identity: str) -> str:
    return identity.partition(":")[0]


def _key(document: Item) -> str:
    return document["id"].partition(":")[2]
