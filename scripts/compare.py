"""Compare two runs, made on two machines, from two commits or with two configurations.

    bin/zagreus compare results/demo /elsewhere/demo
    bin/zagreus compare results/demo --reference          with the hashes in reference/
    bin/zagreus compare results/demo --write-reference    writes them anew for this processor

Says which artifacts are the same, which are the first that differ and why, and puts the scores
side by side with the error of their difference. Exit status 0 only if all artifacts are the same.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import NoReturn

from zagreus.errors import InputError, run
from zagreus.proof.compare import Compared, compare_runs
from zagreus.proof.reference import (
    check,
    product_version,
    read_reference,
    reference_path,
    rows_of,
    write_reference,
)
from zagreus.proof.run_folder import RunFolder

SHOWN = 6  # differences of an artifact that are listed


def main() -> None:
    """Parse the arguments, compare, and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("first", type=Path, help="the results folder of a run")
    parser.add_argument("second", type=Path, nargs="?", help="the results folder of another run")
    reference = parser.add_mutually_exclusive_group()
    reference.add_argument(
        "--reference", action="store_true", help="compare with the kept hashes instead"
    )
    reference.add_argument(
        "--write-reference", action="store_true", help="keep this run's hashes as the reference"
    )
    arguments = parser.parse_args()
    if (arguments.second is None) != (arguments.reference or arguments.write_reference):
        raise InputError("compare: give two runs, or one run with --reference or --write-reference")
    first = RunFolder(arguments.first)
    if arguments.second is None:
        _reference(first, arguments.write_reference)
    from zagreus.reporting.run_scores import compare_scores  # the reference needs no pyarrow

    second = RunFolder(arguments.second)
    compared = compare_runs(first, second)
    _print_artifacts(compared)
    scores = compare_scores(first, second)
    if len(scores):
        print("\nscores that both runs have (difference: second minus first)")
        print(scores.to_string(index=False, float_format=lambda value: f"{value:.4f}"))
    same = all(pair.same for pair in compared.pairs.values())
    sys.exit(0 if same and not compared.only_first and not compared.only_second else 1)


def _reference(folder: RunFolder, write: bool) -> NoReturn:
    """Compare with the reference, or write the reference; then end."""
    path, version = reference_path(folder), product_version()
    if write:
        rows = rows_of(folder, version)
        write_reference(path, rows)
        artifacts = sum(bool(row.software) for row in rows)
        print(f"{path}: {artifacts} artifacts, {rows[0].kind}, version {version}")
        sys.exit(0)
    checked = check(folder, read_reference(path), version)
    if not checked.total:
        raise InputError(f"{path}: {checked.lines()[0]}")
    print(*checked.lines(), sep="\n")
    sys.exit(0 if checked.equal == checked.total else 1)


def _print_artifacts(compared: Compared) -> None:
    same = sum(pair.same for pair in compared.pairs.values())
    print(f"{same} of {len(compared.pairs)} artifacts that both runs have are the same")
    for name, artifact_paths in (("first", compared.only_first), ("second", compared.only_second)):
        if artifact_paths:
            more = f" and {len(artifact_paths) - 5} more" if len(artifact_paths) > 5 else ""
            print(f"only in the {name}: {', '.join(artifact_paths[:5])}{more}")
    for pair in compared.first_differing:
        after = f"; {pair.after} artifacts made from this one differ too" if pair.after else ""
        print(f"{pair.title} is the first that differs{after}")
        for difference in pair.differences[:SHOWN]:
            print(f"  {difference.cause:9} {difference.words}")
        if len(pair.differences) > SHOWN:
            print(f"  ... and {len(pair.differences) - SHOWN} more")


if __name__ == "__main__":
    run(main)
