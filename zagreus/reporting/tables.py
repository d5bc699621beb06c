"""The run's tables, in long form, from its manifests. Nothing here holds a time, a host or a path.

Identical runs give identical bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypedDict

import pandas as pd

from zagreus.errors import InputError
from zagreus.manifest import joint_sha256
from zagreus.reporting.lineage import Lineage, Node

# A score counts as above its floor when it is above by more than this many standard errors (about
# 95 % two-sided).
STANDARD_ERRORS = 2.0

SCORE_KEYS = [
    "task",
    "language",
    "metric",
    "value",
    "stderr",
    "n",
    "num_fewshot",
    "chance",
    "majority_baseline",
    "higher_is_better",
    "task_version",
    "task_hash",
]

TOKEN_COLUMNS = [
    "source",
    "task",
    "language",
    "documents",
    "tokens",
    "text_bytes",
    "words",
    "shard_bytes",
    "bytes_per_token",
    "tokens_per_word",
    "sha256",
]

SCORE_COLUMNS = [
    "model",
    "kind",
    "checkpoint",
    "step",
    "tokens",
    "suite",
    "task",
    "language",
    "metric",
    "value",
    "stderr",
    "n",
    "num_fewshot",
    "chance",
    "majority_baseline",
    "above_chance",
    "higher_is_better",
    "task_version",
    "task_hash",
    "unparsed",
    "label_shares",
    "set_aside",
    "dtype",
    "scorer",
    "chat_template_sha256",
    "weights_sha256",
    "data_sha256",
    "software",
]


class Model(TypedDict):
    """One model as the configuration gives it. `kind` is base, posttrained or baseline.

    `checkpoints` are in order.
    """

    name: str
    title: str
    kind: str
    languages: list[str]
    parent: str | None
    checkpoints: list[str]
    mixture: dict[str, float]


def write_csv(frame: pd.DataFrame, path: Path | str) -> None:
    """Write a table.

    UTF-8, `\\n`, floats with as many digits as tell them apart, nothing for what is missing.
    """
    frame.to_csv(path, index=False, lineterminator="\n")


# Columns that CSV does not tell from numbers, or in which a missing value would turn whole numbers
# into fractions.
TYPES = {
    "scores": {
        "checkpoint": str,
        "step": "Int64",
        "tokens": "Int64",
        "n": "Int64",
        "num_fewshot": "Int64",
        "above_chance": "boolean",
    },
    "agentic": {"checkpoint": str, "eng": "Int64", "ita": "Int64"},
    "training": {"step": "Int64", "tokens": "Int64"},
    "tokens": {"task": str},
    "replication": {"row": str, "checkpoint": str, "step": "Int64", "task": str, "metric": str},
    "paired": {"checkpoint": str, "other_checkpoint": str},
    "left_out": {"left_out": "Int64", "rows": "Int64"},
    "signal": {"above_chance": "boolean", "signal": "boolean"},
    "contaminated_items": {"item": str, "example": str, "ngrams": "Int64", "matched": "Int64"},
    "clean_scores": {"checkpoint": str},
    "models": {
        "checkpoint": str,
        "text_languages": str,
        "step": "Int64",
        "tokens": "Int64",
        "parameters": "Int64",
        "vocab_size": "Int64",
    },
}


def read_tables(folder: Path | str, names: Iterable[str]) -> dict[str, pd.DataFrame]:
    """Read tables by name, with the types they were written with.

    A missing or empty one is an `InputError`.
    """
    tables = {}
    for name in names:
        file = Path(folder) / f"{name}.csv"
        try:
            tables[name] = pd.read_csv(file, dtype=TYPES.get(name), float_precision="round_trip")
        except FileNotFoundError:
            raise InputError(f"{file}: no such table, expected what tabulate writes") from None
        except (pd.errors.EmptyDataError, pd.errors.ParserError, ValueError) as error:
            raise InputError(
                f"{file}: not a table that tabulate wrote ({str(error).splitlines()[0]})"
            ) from None
    return tables


def floor(
    chance: float | None, majority_baseline: float | None, higher_is_better: bool
) -> float | None:
    """Return what a score has to beat: the better of chance and of the majority-class baseline.

    None where neither has a meaning.
    """
    known = [
        value for value in (chance, majority_baseline) if value is not None and not pd.isna(value)
    ]
    if not known:
        return None
    return max(known) if higher_is_better else min(known)


def above_chance(score: dict[str, Any]) -> bool | None:
    """Say whether a score is better than its floor by more than two standard errors.

    None where floor or standard error is unknown.
    """
    reference = floor(score["chance"], score["majority_baseline"], score["higher_is_better"])
    if reference is None or score["stderr"] is None:
        return None
    gain = score["value"] - reference if score["higher_is_better"] else reference - score["value"]
    return gain > STANDARD_ERRORS * score["stderr"]


def score_table(lineage: Lineage, models: list[Model]) -> pd.DataFrame:
    """Return one row per score, in the order of the configuration: model, checkpoint, suite, task.

    Raises:
        InputError: a manifest of scores without one of the contract's keys, or of a model or
            checkpoint that the configuration lacks.
    """
    order = {
        (model["name"], checkpoint): (i, j)
        for i, model in enumerate(models)
        for j, checkpoint in enumerate(model["checkpoints"])
    }
    kinds = {model["name"]: model["kind"] for model in models}
    rows = []
    for node in lineage.of_kind("scores"):
        manifest = node.manifest
        missing = [key for key in ("model", "checkpoint", "suite", "scores") if key not in manifest]
        if missing:
            raise InputError(f"{node.path}: scores without '{missing[0]}'")
        model, checkpoint = manifest["model"], str(manifest["checkpoint"])
        if (model, checkpoint) not in order:
            raise InputError(
                f"{node.path}: scores of {model}/{checkpoint}, which the configuration does not "
                "have"
            )
        for score in manifest["scores"]:
            absent = [key for key in SCORE_KEYS if key not in score]
            if absent:
                raise InputError(
                    f"{node.path}: the score of task '{score.get('task')}' has no key '{absent[0]}'"
                )
            rows.append(
                {
                    "order": (*order[model, checkpoint], manifest["suite"]),
                    "model": model,
                    "kind": kinds[model],
                    "checkpoint": checkpoint,
                    "step": int(checkpoint) if kinds[model] == "base" else None,
                    "tokens": _trained_tokens(lineage, node) if kinds[model] == "base" else None,
                    "suite": manifest["suite"],
                    **{key: score[key] for key in SCORE_KEYS},
                    "above_chance": above_chance(score),
                    "unparsed": score.get("unparsed"),
                    "label_shares": json.dumps(score["label_shares"])
                    if score.get("label_shares")
                    else None,
                    "set_aside": json.dumps(score["set_aside"]) if score.get("set_aside") else None,
                    **{
                        key: manifest.get(key)
                        for key in ("dtype", "scorer", "chat_template_sha256")
                    },
                    "weights_sha256": weights_sha256(lineage.nearest(node.path, "model")),
                    "data_sha256": score.get("data_sha256"),
                    "software": manifest["software"],
                }
            )
    if not rows:
        raise InputError("no scores: not one of the manifests given is of kind 'scores'")
    # sorted() is stable: the tasks of a suite stay in the order in which they were scored.
    frame = pd.DataFrame(sorted(rows, key=lambda row: row["order"]))[SCORE_COLUMNS]
    return frame.astype(
        {
            "step": "Int64",
            "tokens": "Int64",
            "n": "Int64",
            "num_fewshot": "Int64",
            "above_chance": "boolean",
        }
    )


def training_table(lineage: Lineage, models: list[Model]) -> pd.DataFrame:
    """Return one row per optimizer step of every model.

    Model, stage (pretrain, sft, dpo, distill), step, tokens, loss, grad_norm, learning_rate,
    and at the steps with held-out text the mean loss there, heldout_loss.
    """
    rank = {model["name"]: number for number, model in enumerate(models)}
    rows: dict[tuple[int, str, str, int], dict[str, Any]] = {}
    for node in lineage.nodes.values():
        for log in training_logs(node):
            model, stage = _model_and_stage(node)
            if model not in rank:
                continue
            for line in read_log(log):
                # A job that was killed writes the steps after its last save a second time: the last
                # one counts.
                rows[rank[model], model, stage, line["step"]] = {
                    key: line.get(key)
                    for key in ("tokens", "loss", "grad_norm", "learning_rate", "heldout_loss")
                }
    stages = {"pretrain": 0, "sft": 1, "dpo": 2, "distill": 3}
    ordered = sorted(rows, key=lambda key: (key[0], stages[key[2]], key[3]))
    frame = pd.DataFrame(
        [
            {"model": model, "stage": stage, "step": step, **rows[i, model, stage, step]}
            for i, model, stage, step in ordered
        ],
        columns=[
            "model",
            "stage",
            "step",
            "tokens",
            "loss",
            "grad_norm",
            "learning_rate",
            "heldout_loss",
        ],
    )
    return frame.astype({"step": "Int64", "tokens": "Int64"})


def token_table(lineage: Lineage) -> pd.DataFrame:
    """Return one row per token shard.

    Source, task, language, documents, tokens, text_bytes, words, shard_bytes, bytes_per_token,
    tokens_per_word (fertility; words are what stands between white space), sha256 of the shard.

    In the order in which the models use them, the sources of a language together, code last.
    """
    rows = []
    for node in lineage.of_kind("tokens"):
        source, _, task = node.name.partition("/")
        missing = [
            key
            for key in ("language", "documents", "tokens", "text_bytes", "words")
            if key not in node.manifest
        ]
        if missing:
            raise InputError(f"{node.path}: tokens without '{missing[0]}'")
        shard: dict[str, Any] = next(
            (item for item in node.manifest["outputs"] if item["path"].endswith(".ds")), {}
        )
        tokens, text, words = (node.manifest[key] for key in ("tokens", "text_bytes", "words"))
        rows.append(
            {
                "source": source,
                "task": task,
                "language": node.manifest["language"],
                "documents": node.manifest["documents"],
                "tokens": tokens,
                "text_bytes": text,
                "words": words,
                "shard_bytes": shard.get("bytes"),
                "bytes_per_token": round(text / tokens, 4)
                if tokens and text is not None
                else None,  # adopted shards: text not known
                "tokens_per_word": round(tokens / words, 4) if words else None,
                "sha256": shard.get("sha256"),
            }
        )
    languages = list(dict.fromkeys(row["language"] for row in rows))
    sources = list(dict.fromkeys(row["source"] for row in rows))
    rows.sort(
        key=lambda row: (
            row["language"] == "code",
            languages.index(row["language"]),
            sources.index(row["source"]),
            row["task"],
        )
    )
    return pd.DataFrame(rows, columns=TOKEN_COLUMNS)


def source_table(tokens: pd.DataFrame, jobs: pd.DataFrame) -> pd.DataFrame:
    """Return one row per source, in the order of `tokens`.

    Language, files, documents, tokens, words, text_bytes, shard_bytes,
    bytes_per_token, tokens_per_word, and the seconds of its tokenize jobs (missing where none was
    timed)."""
    table = tokens.groupby("source", sort=False).agg(
        language=("language", "first"),
        files=("task", "size"),
        documents=("documents", "sum"),
        tokens=("tokens", "sum"),
        words=("words", "sum"),
        text_bytes=("text_bytes", "sum"),
        shard_bytes=("shard_bytes", "sum"),
    )
    table["bytes_per_token"] = table["text_bytes"] / table["tokens"]
    table["tokens_per_word"] = table["tokens"] / table["words"]
    timed = jobs[jobs["rule"] == "tokenize"]
    table["seconds"] = timed["seconds"].groupby(timed["job"].str.partition("/")[0]).sum(min_count=1)
    return table.reset_index()


def mixture_table(
    models: list[Model], tokens: pd.DataFrame, training: pd.DataFrame
) -> pd.DataFrame:
    """Return one row per base model and source.

    Weight, tokens there are, tokens seen (weight x tokens trained), epochs (seen / there are).
    """
    available = tokens.groupby("source")["tokens"].sum()
    language = dict(zip(tokens["source"], tokens["language"], strict=True))
    trained = training[training["stage"] == "pretrain"].groupby("model")["tokens"].max()
    rows = []
    for model in models:
        for source, weight in model["mixture"].items():
            if source not in available.index or model["name"] not in trained.index:
                continue
            seen = weight * int(trained[model["name"]])
            rows.append(
                {
                    "model": model["name"],
                    "source": source,
                    "language": language[source],
                    "weight": weight,
                    "tokens_available": int(available[source]),
                    "tokens_seen": round(seen),
                    "epochs": round(seen / int(available[source]), 4),
                }
            )
    return pd.DataFrame(
        rows,
        columns=[
            "model",
            "source",
            "language",
            "weight",
            "tokens_available",
            "tokens_seen",
            "epochs",
        ],
    )


def model_table(lineage: Lineage, models: list[Model], tokens: pd.DataFrame) -> pd.DataFrame:
    """Return one row per model and checkpoint: what it is, from what, how large, which weights.

    `languages` are those that a model is for, `text_languages` those of the text that it was
    trained on (`code` among them).
    """
    language = dict(zip(tokens["source"], tokens["language"], strict=True))
    nodes = {
        (node.manifest.get("model"), str(node.manifest.get("checkpoint"))): node
        for node in lineage.of_kind("model")
    }
    rows = []
    for model in models:
        for checkpoint in model["checkpoints"]:
            node = nodes.get((model["name"], checkpoint))
            if node is None:
                raise InputError(
                    f"no manifest of model {model['name']}/{checkpoint} behind the scores given"
                )
            rows.append(
                {
                    "model": model["name"],
                    "title": model["title"],
                    "kind": model["kind"],
                    "languages": " ".join(model["languages"]),
                    "text_languages": " ".join(
                        dict.fromkeys(
                            language[source] for source in model["mixture"] if source in language
                        )
                    ),
                    "parent": model["parent"],
                    "checkpoint": checkpoint,
                    "step": int(checkpoint) if model["kind"] == "base" else None,
                    "tokens": _trained_tokens(lineage, node) if model["kind"] == "base" else None,
                    "parameters": _parameters(lineage, node),
                    "vocab_size": node.manifest.get("vocab_size"),
                    "weights_bytes": sum(item["bytes"] for item in _weights(node)),
                    "weights_sha256": weights_sha256(node),
                    "software": node.manifest["software"],
                }
            )
    frame = pd.DataFrame(rows)
    return frame.astype(dict.fromkeys(("step", "tokens", "parameters", "vocab_size"), "Int64"))


def weights_sha256(node: Node | None) -> str | None:
    """Return the sha256 of a model's weights, one for all of its files.

    None where there is no model.
    """
    return (
        joint_sha256({Path(item["path"]).name: item["sha256"] for item in _weights(node)})
        if node
        else None
    )


def training_logs(node: Node) -> list[str]:
    """Return an artifact's training logs (JSON lines).

    A checkpoint's log lies beside its manifest; it holds times, so that it is none of the files the
    manifest vouches for.
    """
    if node.kind == "checkpoint":
        return [str(Path(node.path).with_suffix(".jsonl"))]
    if node.kind == "model":
        return [
            item["path"] for item in node.manifest["outputs"] if item["path"].endswith(".jsonl")
        ]
    return []


def read_log(path: str) -> list[dict[str, Any]]:
    """Read the steps of a training log, without its events.

    A line that is not JSON is an `InputError`.
    """
    return [entry for entry in log_lines(path) if "event" not in entry and "loss" in entry]


def log_lines(path: str) -> list[dict[str, Any]]:
    """Read a training log, events too."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise InputError(f"{path}: no such training log") from None
    entries = []
    for number, line in enumerate(lines, 1):
        try:
            entries.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise InputError(f"{path}: line {number} is not JSON ({error})") from None
    return entries


def _parameters(lineage: Lineage, node: Node) -> int | None:
    """Return a model's number of parameters.

    Its manifest's fact, or for a converted checkpoint the plan that its training log begins with.
    """
    if "parameters" in node.manifest:
        return node.manifest["parameters"]
    checkpoint = lineage.nearest(node.path, "checkpoint")
    plans = log_lines(training_logs(checkpoint)[0]) if checkpoint else []
    return next((entry["parameters"] for entry in plans if entry.get("event") == "start"), None)


def _weights(node: Node) -> list[dict[str, Any]]:
    return [item for item in node.manifest["outputs"] if item["path"].endswith(".safetensors")]


def _model_and_stage(node: Node) -> tuple[str, str]:
    if node.kind == "checkpoint":
        return node.manifest["model"], "pretrain"
    return node.manifest["model"], str(node.manifest["checkpoint"])


def _trained_tokens(lineage: Lineage, node: Node) -> int | None:
    checkpoint = lineage.nearest(node.path, "checkpoint")
    return None if checkpoint is None else checkpoint.manifest.get("tokens_seen")
