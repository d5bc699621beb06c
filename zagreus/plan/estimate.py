"""What a run will cost before it runs.

Tokens, operations, hours, bytes, money, of what is still missing.

Measurements of this run replace assumptions where there are any: training logs for tokens per
second, the circumstances of token shards for the speed of tokenization, Snakemake's benchmark files
for jobs that no formula covers.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from zagreus.errors import InputError
from zagreus.plan.geometry import configured
from zagreus.platform.builds import on_gpus
from zagreus.recipe.cost import checkpoint_bytes, flops_per_token, model_bytes, parameters
from zagreus.recipe.ladder import recipe_of, trained_entries
from zagreus.recipe.schema import Recipe

# Tokens that a CPU core tokenizes in a second, where nothing was measured: docs/benchmarks, natural
# language, a cold engine.
TOKENS_PER_CPU_SECOND = 10e6
# Bytes of text on disk (parquet) for a token, where nothing was fetched: FineWeb's card has 277.4
# GB for its sample of 100 billion.
TEXT_BYTES_PER_TOKEN = 2.8
# Bytes at the end of a training's log that its speed is taken from: about a thousand steps. A long
# segment's log has hundreds of megabytes.
LOG_END = 300_000
# Benchmark files of a rule that are read: with thousands of jobs every few of them.
BENCHMARKS = 200
# Rules whose jobs ask for GPUs where torch has them.
ON_GPUS = ("convert", "posttrain", "evaluate", "sample")


@dataclass
class Source:
    """A text source: what is on disk and what is missing."""

    name: str
    """Name in the configuration."""
    language: str
    """ISO 639-3 code, or `code`."""
    tasks: int
    """Jobs that the source is divided into."""
    fetched: int
    """Tasks whose text is on disk."""
    made: int
    """Tasks whose shards are on disk."""
    tokens: int
    """Tokens of the shards on disk."""
    missing: float
    """Tokens of the missing shards that the run needs."""
    needed_tokens: float
    """Tokens that the model with the largest share sees."""
    cpu_hours: float
    """Core hours of the missing tokenization."""
    shard_bytes: float
    """Bytes of all shards, the missing ones included."""
    text_bytes: float
    """Bytes of the text of all tasks, estimated where not fetched."""

    @property
    def task_hours(self) -> float:
        """CPU hours of one missing task."""
        return self.cpu_hours / (self.tasks - self.made) if self.made < self.tasks else 0.0

    @property
    def epochs(self) -> float | None:
        """Times that the text is seen; None before all of it is tokenized."""
        return self.needed_tokens / self.tokens if self.made == self.tasks and self.tokens else None


@dataclass
class Training:
    """What is missing of a base model's training, and what it leaves on disk when it is done."""

    name: str
    """Name of the model."""
    origin: str | None
    """Model whose weights it starts from; None for random weights."""
    parameters: int
    """Number of parameters."""
    segments: int
    """Missing jobs, one for each checkpoint."""
    steps: int
    """Missing optimizer steps."""
    tokens: int
    """Tokens of the missing steps."""
    flops: float
    """Floating-point operations of the missing steps."""
    rank_hours: float | None
    """Hours times ranks; None without a measured or configured speed."""
    basis: str
    """Where the speed comes from."""
    disk_bytes: int
    """Bytes of the kept checkpoints."""
    rolling_bytes: int
    """Bytes of the saves that exist only during training."""


@dataclass
class Jobs:
    """Missing jobs of a rule."""

    rule: str
    """Name of the rule."""
    missing: int
    """Jobs that are not done."""
    hours: float | None
    """Hours of the missing jobs, from timed jobs; None where none was timed."""
    ranks: int = 0
    """GPUs that one job holds; 0: CPU cores only."""

    @property
    def hours_per_job(self) -> float:
        """Hours of one of them; 0 where none is missing or none was timed."""
        return (self.hours or 0.0) / self.missing if self.missing else 0.0


def vocabulary(config: Mapping[str, Any], results: Path) -> int:
    """Return the size of the run's vocabulary.

    Of the tokenizer that is made, else what the config wants to train.

    Raises:
        InputError: it is known only once the tokenizer is there.
    """
    made = results / "tokenizer" / "manifest.json"
    if made.exists():
        return int(json.loads(made.read_text(encoding="utf-8"))["vocab_size"])
    if config["tokenizer"]["kind"] == "train":
        return int(config["tokenizer"]["vocab_size"])
    raise InputError(
        f"the recipe leaves vocab_size open, and {made} is not there yet; make it first (target "
        f"{made})"
    )


def source_plan(config: Mapping[str, Any], results: Path) -> list[Source]:
    """Return what each source of the config has, and how much text the models need."""
    needed_tokens: dict[str, float] = {}
    for pretrain in trained_entries(config).values():
        tokens = recipe_of(pretrain).tokens_per_step * pretrain["checkpoints"][-1]
        for source, share in pretrain["mixture"].items():
            needed_tokens[source] = max(needed_tokens.get(source, 0.0), share * tokens)
    width = (
        2 if config["tokenizer"].get("vocab_size", 2**32) <= 2**16 else 4
    )  # a tokenizer that is not trained here is Llama-3's size
    made_shards = {name: _shards(results / "tokens" / name) for name in config["sources"]}
    rates = [rate for shards in made_shards.values() for _, rate in shards if rate]
    rate = median(rates) if rates else TOKENS_PER_CPU_SECOND
    plan = []
    for name, entry in config["sources"].items():
        made, tokens = len(made_shards[name]), sum(count for count, _ in made_shards[name])
        # All of a source is tokenized. Before that, as much as the models ask for is the least that
        # it must be.
        missing = max(needed_tokens.get(name, 0.0) - tokens, 0.0) if made < entry["tasks"] else 0.0
        hours = missing / rate / 3600
        fetched, text = _text(results / "sources" / name)
        share = (entry["tasks"] - fetched) / entry["tasks"]
        unfetched = (
            (max(needed_tokens.get(name, 0.0), tokens) if made < entry["tasks"] else tokens)
            * share
            * TEXT_BYTES_PER_TOKEN
        )
        shards = (tokens + missing) * width
        there = (entry["tasks"], fetched, made, tokens)
        plan.append(
            Source(
                name,
                entry["language"],
                *there,
                missing,
                needed_tokens.get(name, 0.0),
                hours,
                shards,
                text + unfetched,
            )
        )
    return plan


def _text(folder: Path) -> tuple[int, int]:
    """Return the tasks of a source that are fetched, and the bytes of their text on disk."""
    manifests = [
        json.loads(path.read_text(encoding="utf-8"))
        for path in folder.glob("[0-9]*.json")
        if not path.name.endswith(".run.json")
    ]
    return len(manifests), sum(
        output["bytes"] for manifest in manifests for output in manifest["outputs"]
    )


def _shards(folder: Path) -> list[tuple[int, float | None]]:
    """Return tokens and tokens per second of each shard in a folder."""
    shards = []
    for path in sorted(folder.glob("[0-9]*.json")):
        if not path.name.endswith(".run.json"):
            run = path.with_suffix(".run.json")
            circumstances = json.loads(run.read_text(encoding="utf-8")) if run.exists() else {}
            shards.append(
                (
                    json.loads(path.read_text(encoding="utf-8"))["tokens"],
                    circumstances.get("tokens_per_second"),
                )
            )
    return shards


def training_plan(config: Mapping[str, Any], results: Path) -> list[Training]:
    """Return what is missing of each base model's training, and of each rung's of the ladder."""
    plan = []
    for name, pretrain in trained_entries(config).items():
        recipe = recipe_of(pretrain)
        vocab_size = (
            recipe.model.padded_vocab_size
            if recipe.model.model_config.vocab_size > 0
            else vocabulary(config, results)
        )
        folder = results / "pretrain" / name
        done = max(
            (step for step in pretrain["checkpoints"] if (folder / f"{step}.json").exists()),
            default=0,
        )
        steps = pretrain["checkpoints"][-1] - done
        segments = sum(step > done for step in pretrain["checkpoints"])
        tokens = steps * recipe.tokens_per_step
        flops = tokens * flops_per_token(
            recipe.model.model_config, vocab_size, recipe.tokens.sequence_length
        )
        speed, basis = rank_speed(config, results, name)
        hours = None if speed is None else tokens / speed / 3600
        kept = len(pretrain["checkpoints"])
        disk = kept * (checkpoint_bytes(recipe, vocab_size) + model_bytes(recipe, vocab_size))
        origin = pretrain.get("from")
        size = parameters(recipe.model.model_config, vocab_size)
        # One more than are kept: a save is removed only when the next one is whole.
        rolling = (
            (recipe.zagreus.rolling_saves + 1) * checkpoint_bytes(recipe, vocab_size)
            if steps
            else 0
        )
        from_model = origin if isinstance(origin, str) else None
        plan.append(
            Training(
                name, from_model, size, segments, steps, tokens, flops, hours, basis, disk, rolling
            )
        )
    return plan


def rank_speed(config: Mapping[str, Any], results: Path, name: str) -> tuple[float | None, str]:
    """Return the tokens that a rank trains on in a second, and where that is from.

    The model's own logs, those of a model with the same
    recipe, the roofline of the config's `plan.accelerator`, else the share of the peak that the
    config assumes; None where nothing says it."""
    entries, assumed = trained_entries(config), config.get("plan", {})
    entry = entries[name]
    alike = [other for other in entries if _work(entries[other]) == _work(entry) and other != name]
    for other in (name, *alike):
        speed = _measured(results / "pretrain" / other)
        if speed is not None:
            mfu = (
                f", MFU {speed * _flops(config, results, entry) / assumed['peak_flops']:.0%}"
                if "peak_flops" in assumed
                else ""
            )
            return (
                speed,
                f"measured{'' if other == name else f' ({other})'}, {speed:,.0f} tokens/s a "
                f"rank{mfu}",
            )
    if "accelerator" in assumed:
        recipe = recipe_of(entry)
        predicted = configured(config, recipe, recipe_vocabulary(config, results, recipe))
        if predicted is not None:
            return (
                predicted.tokens_per_second,
                f"predicted ({assumed['accelerator']}), MFU {predicted.mfu:.0%}",
            )
    if "peak_flops" not in assumed:
        return None, "unknown"
    flops = _flops(config, results, entry)
    return assumed["mfu"] * assumed["peak_flops"] / flops, f"assumed, MFU {assumed['mfu']:.0%}"


def recipe_vocabulary(config: Mapping[str, Any], results: Path, recipe: Recipe) -> int:
    """Return the rows of a recipe's embedding."""
    return (
        recipe.model.padded_vocab_size
        if recipe.model.model_config.vocab_size > 0
        else vocabulary(config, results)
    )


def _work(pretrain: Mapping[str, Any]) -> tuple[str, Any]:
    """Return what the work of a step depends on: recipe file, and the size of a rung."""
    return pretrain["recipe"], pretrain.get("rung", {}).get("size")


def _flops(config: Mapping[str, Any], results: Path, pretrain: Mapping[str, Any]) -> float:
    """Return the floating-point operations of a token of a training."""
    recipe = recipe_of(pretrain)
    vocab_size = recipe_vocabulary(config, results, recipe)
    return flops_per_token(recipe.model.model_config, vocab_size, recipe.tokens.sequence_length)


def _measured(folder: Path) -> float | None:
    """Return tokens per second of one rank: the median over the last steps of a model's logs.

    None where there is none.
    """
    speeds = []
    for log in folder.glob("*.jsonl"):
        with open(log, "rb") as opened:
            lines = [opened.readline()]
            opened.seek(max(opened.tell(), log.stat().st_size - LOG_END))
            lines += opened.read().split(b"\n")
        ranks = 1
        for line in lines:
            try:
                entry = json.loads(line)
            except (
                ValueError
            ):  # cut off where the reading began, or the last line of a training that goes on
                continue
            ranks = entry.get("ranks", ranks)
            if "tokens_per_second" in entry:
                speeds.append(entry["tokens_per_second"] / ranks)
    return median(speeds) if speeds else None


def job_plan(
    config: Mapping[str, Any], files_by_rule: Mapping[str, Sequence[str]], benchmarks: Path
) -> list[Jobs]:
    """Return the missing jobs of the rules that no formula covers, by the files that they make.

    Args:
        config: the whole configuration, for the GPUs of a job: whole nodes for post-training, one
            for the others, none for torch on CPUs.
        files_by_rule: the files by rule, or by RULE/NAME, of which each has a row.
        benchmarks: the run's folder of Snakemake's benchmark files, `RULE/JOB.tsv`.
    """
    plan, timed = [], dict[str, list[float]]()
    cluster, gpus = config["cluster"], on_gpus(config["torch"])
    nodes = cluster.get("posttrain_nodes", 1) * cluster["ranks_per_node"]
    for group, files in files_by_rule.items():
        rule = group.split("/")[0]
        missing = sum(not Path(file).exists() for file in files)
        if rule not in timed:
            timed[rule] = job_seconds(benchmarks / rule)
        ranks = (nodes if rule == "posttrain" else 1) if gpus and rule in ON_GPUS else 0
        plan.append(
            Jobs(
                rule, missing, missing * median(timed[rule]) / 3600 if timed[rule] else None, ranks
            )
        )
    return plan


def fetch_jobs(sources: Sequence[Source], benchmarks: Path) -> Jobs:
    """Return the missing jobs that fetch text."""
    missing, timed = (
        sum(source.tasks - source.fetched for source in sources),
        job_seconds(benchmarks / "fetch"),
    )
    return Jobs("fetch", missing, missing * median(timed) / 3600 if timed else None)


def job_seconds(folder: Path) -> list[float]:
    """Return what jobs took, by Snakemake's benchmark files in a folder, or by one file.

    None where it is not there.
    """
    files = [folder] if folder.is_file() else sorted(folder.rglob("*.tsv"))
    seconds = [_seconds(file) for file in files[:: len(files) // BENCHMARKS + 1]]
    return [value for value in seconds if value is not None]


def _seconds(file: Path) -> float | None:
    with open(file, newline="") as opened:
        rows = list(csv.DictReader(opened, delimiter="\t"))
    try:
        return float(rows[-1]["s"])
    except (IndexError, KeyError, ValueError):
        return None
