"""Replace the hub revisions in a configuration by today's commits.

    bin/zagreus pin [CONFIGURATION]

The entries are sources, chat data, evaluation data, tokenizer and baselines. Evaluation data also
get the sha256 of their files. Nothing else in the file changes. Pin before the first `stage`: data
of another revision are fetched again.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from zagreus.atomic import atomic_file
from zagreus.config.yaml_file import read_text
from zagreus.data.hub import commit_of, hash_of
from zagreus.data.pins import pin
from zagreus.errors import run


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "configuration",
        nargs="?",
        type=Path,
        default=Path("config.yaml"),
        help="the file to change (config.yaml)",
    )
    arguments = parser.parse_args()
    before = read_text(arguments.configuration)
    text, pins = pin(before, str(arguments.configuration), commit_of, hash_of)
    if text != before:
        with atomic_file(arguments.configuration) as partial:
            partial.write_text(text, encoding="utf-8")
    for entry in pins:
        hashes = f", {len(entry.sha256)} sha256" if entry.sha256 else ""
        print(f"{'.'.join(entry.path)}: {entry.repo} at {entry.revision} is {entry.commit}{hashes}")
    print(
        f"{arguments.configuration}: {len(pins)} items of the hub, "
        f"{'pinned' if text != before else 'pinned already, nothing changed'}"
    )


if __name__ == "__main__":
    run(main)
