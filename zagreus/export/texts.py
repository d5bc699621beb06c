"""Texts on which a runtime's tokens are compared with the tokenizer's.

Characters of every Unicode category, digits, line ends, contractions and special tokens, alone and
mixed. Characters of Unicode 3.2 alone: libraries carry tables of different later versions and
class newer characters differently, which no export can change.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from random import Random

UNICODE = unicodedata.ucd_3_2_0  # the only old table of the standard library: Unicode 3.2
CHARACTERS = 24  # of each category
MIXED = 60  # documents of mixed pieces

PLAIN = (
    "Nel principio era la parola. 1234567 numbers, 3.14 and 1,000,000!",
    "I'll say it's what they'd done; WE'VE SEEN IT'S L'ALTRO dell'anno",
    "  two spaces\n\n\nthree line ends\r\n\r\nand\ttabs \t \n  ",
    "def f(x):\n    return x ** 2  # comment\n",
    '{"name": "turn_on", "arguments": {"room": "cucina", "level": 40}}',
    "perché città più così — «virgolette» ¿qué? ação œuvre naïve",
    "日本語とEnglishが混ざる 한국어 العربية हिन्दी ไทย 🙂👩‍👩‍👧",
    "e\u0301 decomposed, \u00a0 no-break, \u200b zero width, \ufeff mark",
    " ",
    "a",
)


def token_texts(special: Sequence[str], seed: int = 0) -> list[str]:
    """Return the test set of texts.

    Args:
        special: special tokens, which stand within some of the texts.
        seed: of the choice of characters.
    """
    random = Random(seed)
    pieces = [*_characters(random), "\r\n", "\n\n", "  ", "'s", "'LL", "12345", "<|", *special]
    words = ["casa", "The", "Über", "x1", "IL", "d'", "42", "?!"]
    mixed = (
        "".join(random.choices([*pieces, *words], k=random.randint(2, 120))) for _ in range(MIXED)
    )
    runs = (character * 200 for character in ("a", " ", "\n", "è", "日", "🙂", "0", "-"))
    around = (f"before{mark}after {mark} {mark}\n" for mark in special)
    return [*PLAIN, *mixed, *runs, *around]


def _characters(random: Random) -> Iterable[str]:
    """Yield characters of each category, the same ones for the same state of `random`."""
    by_category: dict[str, list[str]] = {}
    for number in range(0x20000):
        category = UNICODE.category(chr(number))
        if category not in ("Cs", "Cn") and category == unicodedata.category(chr(number)):
            by_category.setdefault(category, []).append(chr(number))
    for _, characters in sorted(by_category.items()):
        yield from random.sample(characters, min(CHARACTERS, len(characters)))
