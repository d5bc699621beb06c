"""Conversations between people from the package chitchat-dataset (MIT), in English, and preference
pairs made from them.

`chitchat_dataset/dataset.json` maps an id to `{messages, prompt, start, ratings}`: `messages` is a
list of turns, a turn is a list of utterances `{text, sender, timestamp}`; `ratings` holds `witty`,
`upbeat` and `interesting`, 1 to 10, and is missing in a sixth of the conversations.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import random
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from zagreus.data.chat.rows import Row, alternate

MEMBER = "chitchat_dataset/dataset.json"


def read_chitchat(wheel: Path, options: Mapping[str, Any]) -> Iterator[Row]:
    """Yield SFT rows: pieces of conversations, in which the one who speaks first is the user.

    Options:
        turns: the largest number of turns in a piece (even; 6 when not given).
    """
    size = options.get("turns", 6)
    for name, conversation in _load(wheel).items():
        turns = _turns(conversation)
        for number, start in enumerate(range(0, len(turns) - 1, size)):
            piece = turns[start : start + size]
            yield {
                "id": f"{name}/{number}",
                "conversation": alternate(piece[: len(piece) // 2 * 2]),
            }


def read_chitchat_preferences(wheel: Path, options: Mapping[str, Any]) -> Iterator[Row]:
    """Yield DPO rows, one per reply in a well-rated conversation.

    They are constructed, no one compared the two replies: `chosen` is the reply that a person gave
    at that point of a conversation which its participants rated well; `rejected` is a reply,
    nearest in length among sixteen drawn at random, from a conversation that was rated badly, hence
    mostly off the point. A preference for it is a preference for replies that belong.

    Options:
        good: smallest mean rating of a conversation that gives `chosen` (8 when not given).
        bad: largest mean rating of a conversation that gives `rejected` (4 when not given).
        characters: smallest and largest length of either reply ([16, 240] when not given): short
            replies fit nearly anywhere. No turn before them is longer either.
    """
    good, bad = options.get("good", 8), options.get("bad", 4)
    shortest, longest = options.get("characters", (16, 240))
    conversations = _load(wheel)
    pool = sorted(
        {
            reply
            for conversation in conversations.values()
            if (rating := _rating(conversation)) is not None and rating <= bad
            for reply in _turns(conversation)[1:]
            if shortest <= len(reply) <= longest
        }
    )
    for name, conversation in conversations.items():
        rating = _rating(conversation)
        if rating is None or rating < good:
            continue
        turns = _turns(conversation)
        for index in range(1, len(turns)):
            chosen = turns[index]
            if not shortest <= len(chosen) <= longest:
                continue
            # Up to three turns of context, starting with the user's: the reply at `index` is the
            # assistant's.
            context = turns[max(0, index - 3) : index]
            context = context if len(context) % 2 else context[1:]
            if any(len(text) > longest for text in context):
                continue
            identity = f"{name}/{index}"
            drawn = random.Random(hashlib.sha256(identity.encode("utf-8")).digest()).sample(
                pool, 16
            )
            rejected = min(
                (reply for reply in drawn if reply != chosen),
                key=lambda reply: abs(len(reply) - len(chosen)),
            )
            yield {
                "id": identity,
                "messages": alternate(context),
                "chosen": {"role": "assistant", "content": chosen},
                "rejected": {"role": "assistant", "content": rejected},
            }


def _load(wheel: Path) -> dict[str, Any]:
    with zipfile.ZipFile(wheel) as archive:
        return json.loads(archive.read(MEMBER))


def _turns(conversation: Mapping[str, Any]) -> list[str]:
    """Return the texts of the turns; successive utterances of one sender are one turn."""
    said = [
        (part["sender"], part["text"].strip()) for turn in conversation["messages"] for part in turn
    ]
    spoken = [(sender, text) for sender, text in said if text]
    return [
        "\n".join(text for _, text in group)
        for _, group in itertools.groupby(spoken, key=lambda item: item[0])
    ]


def _rating(conversation: Mapping[str, Any]) -> float | None:
    """Return the mean of the three ratings, 1 to 10, or None where there are none."""
    ratings = conversation.get("ratings")
    return sum(ratings.values()) / len(ratings) if ratings else None
