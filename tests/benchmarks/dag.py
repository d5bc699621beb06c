"""How long a dry-run of the published family takes, by the number of tokenize jobs, and how much
memory: `snakemake -n all`.

    PYTHONPATH=.:tests/benchmarks .tools/venv/bin/python -P tests/benchmarks/dag.py [JOBS ...]

The sources of config.yaml are cut into more tasks, in proportion. The limits are 15 s and 1 GB as
it stands, 90 s with 20,000 jobs. The time with the slurm profile stands beside the plain one. Then
config.yaml's again under Python's profiler: how much of it is functions of this repository, and
what takes most.
"""

from __future__ import annotations

import argparse
import pstats
import re
import sys
import tempfile
from pathlib import Path

import yaml
from interleave import Run, run_once

from zagreus.config.long_form import read_config

ROOT = Path(__file__).parents[2]
# `--sdm env-modules` takes the place of the profile's Apptainer, which Snakemake would look for; no
# rule uses it.
SLURM = ("--profile", str(ROOT / "profiles/slurm"), "--sdm", "env-modules")
SEEN = (
    "config",
    "recipes",
    "envs",
    "containers",
    "scripts",
    "zagreus",
    "reference",
    "CITATION.cff",
)


def write_config(folder: Path, jobs: int | None) -> int:
    """Write config.yaml with sources of about `jobs` tasks in all (None: as they are).

    Return how many they are.
    """
    config = read_config(ROOT / "config.yaml")
    sources = config["sources"].values()
    whole = sum(source["tasks"] for source in sources)
    for source in sources:
        source["tasks"] = round(source["tasks"] * (jobs or whole) / whole)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return sum(source["tasks"] for source in sources)


def dry_run(folder: Path, *profiler: str, profile: tuple[str, ...] = ()) -> tuple[Run, int]:
    """Dry-run `all`, under Python's profiler where its arguments are given.

    Return what it took and the number of jobs.
    """
    told = [
        "all",
        "--dry-run",
        "--cores",
        "2",
        "--quiet",
        "rules",
        "--snakefile",
        str(ROOT / "Snakefile"),
        "--directory",
        str(folder),
    ]
    run = run_once([sys.executable, *profiler, "-m", "snakemake", *told, *profile])
    return run, int(re.findall(r"^total +(\d+)$", run.output, re.MULTILINE)[-1])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "jobs",
        type=int,
        nargs="*",
        default=[5000, 20000],
        help="numbers of tokenize jobs, besides those of config.yaml",
    )
    arguments = parser.parse_args()
    print(
        f"{'tokenize jobs':>14} {'all jobs':>9} {'profile':>8} {'seconds':>8} {'CPU s':>7} "
        f"{'MB':>6}"
    )
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for name in SEEN:
            (folder / name).symlink_to(ROOT / name)
        for size in (None, *arguments.jobs):
            tasks = write_config(folder, size)
            for name, profile in {"none": (), "slurm": SLURM}.items():
                run, jobs = dry_run(folder, profile=profile)
                print(
                    f"{tasks:>14,} {jobs:>9,} {name:>8} {run.wall:>8.1f} {run.cpu:>7.1f} "
                    f"{run.peak / 1e6:>6.0f}",
                    flush=True,
                )
        write_config(folder, None)
        dry_run(folder, "-m", "cProfile", "-o", str(folder / "profile"))
        stats = pstats.Stats(str(folder / "profile")).stats  # type: ignore[attr-defined]
        ours = sum(
            own
            for (file, _, _), (_, _, own, _, _) in stats.items()
            if file.startswith(str(ROOT)) and "/.tools/" not in file
        )
        print(
            "of the time of config.yaml's, in this repository's own functions: "
            f"{ours / sum(value[2] for value in stats.values()):.1%}"
        )
        largest = sorted(stats.items(), key=lambda item: -item[1][2])[:12]
        for (file, line, function), (_, calls, own, _, _) in largest:
            print(
                f"{own:>8.2f} s in {calls:>9,} calls of {function} "
                f"({'/'.join(Path(file).parts[-2:])}:{line})"
            )


if __name__ == "__main__":
    main()
