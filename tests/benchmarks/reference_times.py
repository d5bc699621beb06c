"""Write the reference times of a configuration from a finished run of it, for the time left.

    python -P tests/benchmarks/reference_times.py results/demo config/demo.yaml

after a run from nothing on two cores without other work. The file is
`profiles/logger/snakemake_logger_plugin_zagreus/times/NAME.csv`. Two jobs run at a time, so that a
job adds half of its seconds to the length of the run.
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "profiles/logger")]

from snakemake_logger_plugin_zagreus.reference import MEASURES, TIMES

AT_A_TIME = 2


def times(benchmarks: Path, column: str) -> list[tuple[str, str, float]]:
    """Return (rule, job, seconds that it adds to the run) of each benchmark file."""
    rows = []
    for path in sorted(benchmarks.rglob("*.tsv")):
        rule, _, job = str(path.relative_to(benchmarks).with_suffix("")).partition("/")
        with path.open(encoding="utf-8") as lines:
            (row,) = csv.DictReader(lines, delimiter="\t")
        rows.append((rule, job, float(row[column]) / AT_A_TIME))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path, help="folder of the run")
    parser.add_argument("config", type=Path, help="its configuration")
    parser.add_argument("--column", default="s", help="of the benchmark files (default s)")
    parser.add_argument("--scale", type=float, default=1.0, help="factor for all times")
    arguments = parser.parse_args()
    rows = [("speed", kind, min(measure() for _ in range(9))) for kind, measure in MEASURES.items()]
    measured = times(arguments.results / "benchmarks", arguments.column)
    rows += [(rule, job, seconds * arguments.scale) for rule, job, seconds in measured]
    rows.append(("all", "", 0.0))
    TIMES.mkdir(exist_ok=True)
    with open(TIMES / f"{arguments.config.stem}.csv", "w", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("rule", "job", "seconds"))
        writer.writerows((rule, job, f"{seconds:.3f}") for rule, job, seconds in rows)


if __name__ == "__main__":
    main()
