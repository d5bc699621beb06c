"""Compare two runs, made on two machines, from two commits or with two configurations.

    bin/zagreus compare results/demo /elsewhere/demo

Says which artifacts are the same, which are the first that differ and why, and puts the scores
side by side with the error of their difference. Exit status 0 only if all artifacts are the same.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from zagreus.errors import run
from zagreus.proof.compare import Compared, compare_runs
from zagreus.proof.run_folder import RunFolder
from zagreus.reporting.run_scores import compare_scores

SHOWN = 6  # differences of an artifact that are listed


def main() -> None:
    """Parse the arguments, compare, and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("first", type=Path, help="the results folder of a run")
    parser.add_argument("second", type=Path, help="the results folder of another run")
    arguments = parser.parse_args()
    first, second = RunFolder(arguments.first), RunFolder(arguments.second)
    compared = compare_runs(first, second)
    _print_artifacts(compared)
    scores = compare_scores(first, second)
    if len(scores):
        print("\nscores that both runs have (difference: second minus first)")
        print(scores.to_string(index=False, float_format=lambda value: f"{value:.4f}"))
    same = all(pair.same for pair in compared.pairs.values())
    sys.exit(0 if same and not compared.only_first and not compared.only_second else 1)


def _print_artifacts(compared: Compared) -> None:
    same = sum(pair.same for pair in compared.pairs.values())
    print(f"{same} of {len(compared.pairs)} artifacts that both runs have are the same")
    for name, places in (("first", compared.only_first), ("second", compared.only_second)):
        if places:
            more = f" and {len(places) - 5} more" if len(places) > 5 else ""
            print(f"only in the {name}: {', '.join(places[:5])}{more}")
    for pair in compared.first_differing:
        after = f"; {pair.after} artifacts made from this one differ too" if pair.after else ""
        print(f"{pair.title} is the first that differs{after}")
        for difference in pair.differences[:SHOWN]:
            print(f"  {difference.cause:9} {difference.words}")
        if len(pair.differences) > SHOWN:
            print(f"  ... and {len(pair.differences) - SHOWN} more")


if __name__ == "__main__":
    run(main)
