"""What a run will cost before it runs: tokens, operations, hours, bytes, money, of what is still missing.

Measurements of this run replace assumptions where there are any: training logs for tokens per second, the circumstances of token shards
for the speed of tokenization, Snakemake's benchmark files for jobs that no formula covers.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from zagreus.cost import checkpoint_bytes, flops_per_token, model_bytes, parameters
from zagreus.errors import InputError
from zagreus.nanotron import Recipe
from zagreus.recipe import read_recipe

# Tokens that a CPU core tokenizes in a second, where nothing was measured: docs/benchmarks, natural language, a cold engine.
TOKENS_PER_CPU_SECOND = 10e6
# Bytes of text on disk (parquet) for a token, where nothing was fetched: FineWeb's card has 277.4 GB for its sample of 100 billion.
TEXT_BYTES_PER_TOKEN = 2.8


@dataclass
class Source:
    """A text source. `tokens` are those of the shards that are made; `asked` is what the model that wants most of it sees; `text_bytes`
    what its text takes on disk."""

    name: str
    language: str
    tasks: int
    made: int
    tokens: int
    asked: float
    cpu_hours: float
    shard_bytes: float
    text_bytes: float

    @property
    def task_hours(self) -> float:
        """CPU hours of one missing task."""
        return self.cpu_hours / (self.tasks - self.made) if self.made < self.tasks else 0.0

    @property
    def epochs(self) -> float | None:
        """Times that the text is seen; None before all of it is tokenized."""
        return self.asked / self.tokens if self.made == self.tasks and self.tokens else None


@dataclass
class Training:
    """What is missing of a base model's training, and what it leaves on disk when it is done. `rank_hours` is None where neither a
    measurement nor the config says how fast a rank is. `rolling_bytes` are the saves that are there only while it trains."""

    name: str
    origin: str | None
    parameters: int
    steps: int
    tokens: int
    flops: float
    rank_hours: float | None
    basis: str
    disk_bytes: int
    rolling_bytes: int


@dataclass
class Jobs:
    """Missing jobs of a rule, and the hours that they take by those that were timed; None where none was."""

    rule: str
    missing: int
    hours: float | None

    @property
    def each(self) -> float:
        """Hours of one of them; 0 where none is missing or none was timed."""
        return (self.hours or 0.0) / self.missing if self.missing else 0.0


def vocabulary(config: Mapping[str, Any], results: Path) -> int:
    """Return the size of the run's vocabulary: of the tokenizer that is made, else what the config wants to train.

    Raises:
        InputError: it is known only once the tokenizer is there.
    """
    made = results / "tokenizer" / "manifest.json"
    if made.exists():
        return int(json.loads(made.read_text(encoding="utf-8"))["vocab_size"])
    if config["tokenizer"]["kind"] == "train":
        return int(config["tokenizer"]["vocab_size"])
    raise InputError(f"the recipe leaves vocab_size open, and {made} is not there yet; make it first (target {made})")


def source_plan(config: Mapping[str, Any], results: Path) -> list[Source]:
    """Return what each source of the config has, and what is asked of it."""
    asked: dict[str, float] = {}
    for model in config["models"].values():
        if "pretrain" in model:
            pretrain = model["pretrain"]
            tokens = read_recipe(pretrain["recipe"]).tokens_per_step * pretrain["checkpoints"][-1]
            for source, share in pretrain["mixture"].items():
                asked[source] = max(asked.get(source, 0.0), share * tokens)
    width = 2 if config["tokenizer"].get("vocab_size", 2**32) <= 2**16 else 4  # a tokenizer that is not trained here is Llama-3's size
    found = {name: _shards(results / "tokens" / name) for name in config["sources"]}
    rates = [rate for shards in found.values() for _, rate in shards if rate]
    rate = median(rates) if rates else TOKENS_PER_CPU_SECOND
    plan = []
    for name, entry in config["sources"].items():
        made, tokens = len(found[name]), sum(count for count, _ in found[name])
        # All of a source is tokenized. Before that, as much as the models ask for is the least that it must be.
        missing = max(asked.get(name, 0.0) - tokens, 0.0) if made < entry["tasks"] else 0.0
        hours = missing / rate / 3600
        fetched, text = _text(results / "sources" / name)
        share = (entry["tasks"] - fetched) / entry["tasks"]
        unfetched = (max(asked.get(name, 0.0), tokens) if made < entry["tasks"] else tokens) * share * TEXT_BYTES_PER_TOKEN
        shards = (tokens + missing) * width
        plan.append(Source(name, entry["language"], entry["tasks"], made, tokens, asked.get(name, 0.0), hours, shards, text + unfetched))
    return plan


def _text(folder: Path) -> tuple[int, int]:
    """Return the tasks of a source that are fetched, and the bytes of their text on disk."""
    manifests = [json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("[0-9]*.json") if not path.name.endswith(".run.json")]
    return len(manifests), sum(output["bytes"] for manifest in manifests for output in manifest["outputs"])


def _shards(folder: Path) -> list[tuple[int, float | None]]:
    """Return tokens and tokens per second of each shard in a folder."""
    found = []
    for path in sorted(folder.glob("[0-9]*.json")):
        if not path.name.endswith(".run.json"):
            run = path.with_suffix(".run.json")
            circumstances = json.loads(run.read_text(encoding="utf-8")) if run.exists() else {}
            found.append((json.loads(path.read_text(encoding="utf-8"))["tokens"], circumstances.get("tokens_per_second")))
    return found


def training_plan(config: Mapping[str, Any], results: Path) -> list[Training]:
    """Return what is missing of each base model's training."""
    assumed = config.get("plan", {})
    plan = []
    for name, model in config["models"].items():
        if "pretrain" not in model:
            continue
        pretrain, recipe = model["pretrain"], read_recipe(model["pretrain"]["recipe"])
        vocab_size = recipe.model.padded_vocab_size if recipe.model.model_config.vocab_size > 0 else vocabulary(config, results)
        folder = results / "pretrain" / name
        done = max((step for step in pretrain["checkpoints"] if (folder / f"{step}.json").exists()), default=0)
        steps = pretrain["checkpoints"][-1] - done
        tokens = steps * recipe.tokens_per_step
        flops = tokens * flops_per_token(recipe.model.model_config, vocab_size, recipe.tokens.sequence_length)
        speed = _measured(folder, recipe)
        if speed is not None:
            hours, basis = tokens / speed / 3600, f"measured, {speed:,.0f} tokens/s a rank"
        elif "peak_flops" in assumed:
            hours, basis = flops / (assumed["mfu"] * assumed["peak_flops"]) / 3600, f"assumed, MFU {assumed['mfu']:.0%}"
        else:
            hours, basis = None, "unknown"
        kept = len(pretrain["checkpoints"])
        disk = kept * (checkpoint_bytes(recipe, vocab_size) + model_bytes(recipe, vocab_size))
        origin = pretrain.get("from")
        size = parameters(recipe.model.model_config, vocab_size)
        # One more than are kept: a save is removed only when the next one is whole.
        rolling = (recipe.zagreus.rolling_saves + 1) * checkpoint_bytes(recipe, vocab_size) if steps else 0
        from_model = origin if isinstance(origin, str) else None
        plan.append(Training(name, from_model, size, steps, tokens, flops, hours, basis, disk, rolling))
    return plan


def _measured(folder: Path, recipe: Recipe) -> float | None:
    """Return tokens per second of one rank: the median over the steps of a model's logs; None where there is none."""
    speeds = []
    for log in folder.glob("*.jsonl"):
        ranks = 1
        for line in log.read_text(encoding="utf-8").splitlines():
            entry = json.loads(line)
            ranks = entry.get("ranks", ranks)
            if "tokens_per_second" in entry:
                speeds.append(entry["tokens_per_second"] / ranks)
    return median(speeds) if speeds else None


def job_plan(wanted: Mapping[str, Sequence[str]], benchmarks: Path) -> list[Jobs]:
    """Return the missing jobs of the rules that no formula covers, by the files that they make.

    Args:
        wanted: the files by rule.
        benchmarks: the run's folder of Snakemake's benchmark files, `RULE/JOB.tsv`.
    """
    plan = []
    for rule, files in wanted.items():
        missing = sum(not Path(file).exists() for file in files)
        seconds = [_seconds(file) for file in (benchmarks / rule).rglob("*.tsv")]
        timed = [value for value in seconds if value is not None]
        plan.append(Jobs(rule, missing, missing * median(timed) / 3600 if timed else None))
    return plan


def _seconds(file: Path) -> float | None:
    with open(file, newline="") as opened:
        rows = list(csv.DictReader(opened, delimiter="\t"))
    try:
        return float(rows[-1]["s"])
    except (IndexError, KeyError, ValueError):
        return None


@dataclass
class Totals:
    """The whole of what is missing. Hours are None where a training's speed is not known; `longest` and `row` are wall hours of
    pre-training, with every base model on ranks of its own and with one model after the other; `around` those of the jobs before and
    after it that cannot run beside one another: the longest task, a conversion, the stages of post-training, a suite."""

    tokens: int
    flops: float
    rank_hours: float | None
    cpu_hours: float
    longest: float | None
    row: float | None
    around: float
    text_bytes: float
    shard_bytes: float
    checkpoint_bytes: int
    rolling_bytes: int
    untimed: list[str]

    @property
    def disk_bytes(self) -> float:
        """Bytes of text, shards and checkpoints at the end; images come on top."""
        return self.text_bytes + self.shard_bytes + self.checkpoint_bytes

    @property
    def peak_bytes(self) -> float:
        """Bytes at the most, when all models train at once."""
        return self.disk_bytes + self.rolling_bytes

    def cost(self, prices: Mapping[str, Any]) -> float | None:
        """Return what the hours cost, at prices of a rank's and of a CPU's hour."""
        return None if self.rank_hours is None else self.rank_hours * prices["rank_hour"] + self.cpu_hours * prices["cpu_hour"]

    def lines(self, config: Mapping[str, Any]) -> list[str]:
        """Return the figures for people, one a line."""
        prices = config.get("plan", {}).get("prices")
        unknown = "not known: give plan.peak_flops and plan.mfu, or train a step"
        lines = [f"tokens to train on: {self.tokens:,} ({self.flops:.3g} FLOPs)"]
        lines.append(f"rank-hours of pre-training: {unknown if self.rank_hours is None else f'{self.rank_hours:,.1f}'}")
        lines.append(f"CPU-hours of tokenization: {self.cpu_hours:,.2f}")
        if self.longest is not None and self.row is not None:
            lines.append(
                f"wall time of pre-training: {self.longest:,.1f} hours with all models at once, {self.row:,.1f} one after the other"
            )
            lines.append(
                f"wall time of the longest path: {self.longest + self.around:,.1f} hours, {self.row + self.around:,.1f} with one model at a time"
            )
        lines.append(
            f"disk at the end: at least {self.disk_bytes / 1e9:,.1f} GB ({self.text_bytes / 1e9:,.1f} of text, {self.shard_bytes / 1e9:,.1f} of "
            f"shards, {self.checkpoint_bytes / 1e9:,.1f} of checkpoints); at the most {self.peak_bytes / 1e9:,.1f} GB, with rolling saves"
        )
        cost = self.cost(prices) if prices else None
        if prices and cost is not None:
            lines.append(f"cost: {cost:,.0f} {prices['currency']} ({prices['rank_hour']} a rank-hour, {prices['cpu_hour']} a CPU-hour)")
        if self.untimed:
            lines.append(f"not in these figures, as no such job was timed yet: {', '.join(self.untimed)}")
        return lines

    def exceeded(self, config: Mapping[str, Any]) -> str | None:
        """Return the first figure that passes its limit in the config (`plan.max_...`), as a line; None where all keep to them."""
        plan = config.get("plan", {})
        found = {
            "max_rank_hours": self.rank_hours,
            "max_cost": self.cost(plan["prices"]) if "prices" in plan else None,
            "max_disk_tb": self.peak_bytes / 1e12,
        }
        for limit, needed in found.items():
            if limit in plan and needed is not None and needed > plan[limit]:
                return f"plan.{limit}: the run needs {needed:,.1f}, the configuration allows {plan[limit]:,.1f}"
        return None


def totals(config: Mapping[str, Any], sources: Sequence[Source], trainings: Sequence[Training], jobs: Sequence[Jobs]) -> Totals:
    """Return the whole of a plan."""
    ranks = config["cluster"]["nodes"] * config["cluster"]["ranks_per_node"]
    own = {training.name: training.rank_hours for training in trainings}
    origin = {training.name: training.origin for training in trainings}
    known = all(value is not None for value in own.values())

    def chain(name: str | None) -> float:
        return 0.0 if name is None else (own[name] or 0.0) + chain(origin[name])

    whole = sum(value or 0.0 for value in own.values())
    each = {job.rule: job.each for job in jobs}
    stages = max((len(model["posttrain"]) for model in config["models"].values() if "posttrain" in model), default=0)
    after = each.get("convert", 0.0) + stages * each.get("posttrain", 0.0) + each.get("evaluate", 0.0)
    return Totals(
        tokens=sum(training.tokens for training in trainings),
        flops=sum(training.flops for training in trainings),
        rank_hours=whole if known else None,
        cpu_hours=sum(source.cpu_hours for source in sources),
        longest=max(map(chain, own), default=0.0) / ranks if known else None,
        row=whole / ranks if known else None,
        around=max((source.task_hours for source in sources), default=0.0) + after,
        text_bytes=sum(source.text_bytes for source in sources),
        shard_bytes=sum(source.shard_bytes for source in sources),
        checkpoint_bytes=sum(training.disk_bytes for training in trainings),
        rolling_bytes=sum(training.rolling_bytes for training in trainings),
        untimed=[job.rule for job in jobs if job.missing and job.hours is None],
    )
