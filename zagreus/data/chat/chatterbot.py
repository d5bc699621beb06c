"""Questions and short conversations of the package chatterbot-corpus (BSD), in many languages.

`chatterbot_corpus/data/LANGUAGE/TOPIC.yml` holds `conversations`: lists of lines. What a list of
more than two lines means depends on the topic: a conversation in turns, several answers to the
first line, or a run of question and answer pairs.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from zagreus.data.chat.rows import Row, alternate
from zagreus.errors import InputError

ALTERNATIVES = {"computers", "emotion"}  # later lines are further answers to the first line
PAIRS = {"trivia"}  # one list is a quiz: question, answer, question, answer, ...


def read_chatterbot(wheel: Path, options: Mapping[str, Any]) -> Iterator[Row]:
    """Yield SFT rows.

    Options:
        languages: names of the package's folders, for example `[italian, english]`.
        without: topics that are left out (optional), for example `[tech_support]`, a thousand lines
            in English alone.
    """
    without = set(options.get("without", ()))
    with zipfile.ZipFile(wheel) as archive:
        for language in options["languages"]:
            folder = f"chatterbot_corpus/data/{language}/"
            names = sorted(
                name
                for name in archive.namelist()
                if name.startswith(folder) and name.endswith(".yml")
            )
            if not names:
                raise InputError(f"{wheel}: no conversations in '{language}' ({folder}*.yml)")
            for name in names:
                topic = name.removeprefix(folder).removesuffix(".yml")
                if topic not in without:
                    yield from _topic_rows(
                        language, topic, yaml.safe_load(archive.read(name))["conversations"]
                    )


def _topic_rows(language: str, topic: str, conversations: list[list[str]]) -> Iterator[Row]:
    for number, lines in enumerate(conversations):
        texts = [str(line).strip() for line in lines]
        for index, turns in enumerate(_split(topic, texts)):
            if len(turns) < 2 or not all(turns):
                continue
            # The key is the question: it occurs under several topics, and must not be trained on
            # under one and tested under another.
            question = hashlib.sha256(turns[0].casefold().encode("utf-8")).hexdigest()[:12]
            yield {
                "id": f"{language}:{question}/{topic}.{number}.{index}",
                "conversation": alternate(turns),
            }


def _split(topic: str, texts: list[str]) -> list[list[str]]:
    """Return the conversations of a list of lines, each with an even number of turns."""
    if topic in ALTERNATIVES:
        return [[texts[0], answer] for answer in texts[1:]]
    if topic in PAIRS:
        return [texts[start : start + 2] for start in range(0, len(texts) - 1, 2)]
    return [texts[: len(texts) // 2 * 2]]
