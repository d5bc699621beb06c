"""Write the text of tests/integration/chain.yaml that no package carries: sums.

Questions in the layouts of MMLU (English) and pinocchio (Italian), and conversations with a score.

    python -P tests/integration/chain_text.py FOLDER
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow
import pyarrow.parquet

LARGEST = 20
LETTERS = "ABCD"
WORDS = {
    "eng": ("What is {} plus {}?", "{} plus {} is {}."),
    "ita": ("Quanto fa {} più {}?", "{} più {} fa {}."),
}


def sums() -> Iterator[tuple[int, int]]:
    """Yield the sums (first, second)."""
    for first in range(1, LARGEST + 1):
        yield from ((first, second) for second in range(1, LARGEST + 1))


def question(language: str, first: int, second: int) -> tuple[str, list[str], int]:
    """Return a question, its choices and the index of the right one."""
    answer_index = (first + 3 * second) % len(LETTERS)
    choices = [str(first + second - answer_index + index) for index in range(len(LETTERS))]
    return WORDS[language][0].format(first, second), choices, answer_index


def main() -> None:
    """Write FOLDER/eng, FOLDER/ita and FOLDER/talk.jsonl."""
    folder = Path(sys.argv[1])
    rows: dict[str, list[dict]] = {"eng": [], "ita": []}
    for first, second in sums():
        text, choices, answer_index = question("eng", first, second)
        rows["eng"].append({"question": text, "choices": choices, "answer": answer_index})
        text, choices, answer_index = question("ita", first, second)
        options = [
            {"key": letter, "value": choice}
            for letter, choice in zip(LETTERS, choices, strict=True)
        ]
        rows["ita"].append({"question": text, "options": options, "answer": LETTERS[answer_index]})
    for language, records in rows.items():
        (folder / language).mkdir(parents=True, exist_ok=True)
        table = pyarrow.Table.from_pylist(records)
        pyarrow.parquet.write_table(table, folder / language / "00000.parquet")
    talk = []
    for number, (first, second) in enumerate(sums()):
        if first > second:
            continue
        language = ("eng", "ita")[number % 2]
        asked, answer = WORDS[language]
        messages = [
            {"role": "user", "content": asked.format(first, second)},
            {"role": "assistant", "content": answer.format(first, second, first + second)},
        ]
        talk.append({"messages": messages, "language": language, "score": number % 10 / 10})
    (folder / "talk.jsonl").write_text(
        "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in talk), encoding="utf-8"
    )


if __name__ == "__main__":
    main()
