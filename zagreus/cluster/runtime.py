"""How long a job may take.

By what was measured in this run where there is anything, else by the plan's assumption; with
head-room.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zagreus.config.yaml_file import read_mapping
from zagreus.errors import InputError
from zagreus.plan.estimate import job_seconds, rank_speed
from zagreus.posttraining.sets import sets_of
from zagreus.recipe.ladder import recipe_of, trained_entries

# Head-room of a training: a machine slower than planned, and the start of a job (the image, torch,
# the compilation of the model).
SLOWER, START = 1.5, 30
# Of another job, next to the longest of its rule. One that needs more has the rule's own time in
# its next attempt.
LONGER, BEGIN = 2.0, 10


def step_seconds(config: Mapping[str, Any], results: Path, model: str) -> float | None:
    """Return how long a step of a model's training takes on the configured ranks.

    None where no speed is known.

    Args:
        results: the run's folder, for the logs of trainings.
    """
    cluster = config["cluster"]
    try:
        speed, _ = rank_speed(config, results, model)
    except InputError:  # the size of the vocabulary is not known yet
        return None
    if speed is None:
        return None
    tokens = recipe_of(trained_entries(config)[model]).tokens_per_step
    return tokens / (speed * cluster["nodes"] * cluster["ranks_per_node"])


def segment_minutes(seconds: float, steps: int) -> int:
    """Return the minutes to ask for to train a number of steps that take `seconds` each."""
    return START + math.ceil(SLOWER * steps * seconds / 60)


def stage_minutes(
    config: Mapping[str, Any], results: Path, benchmarks: Path, model: str, stage: str
) -> int | None:
    """Return the minutes to ask for to post-train a model, by the longest time that a row took in a
    stage with the same recipe; None where none was timed, or the rows are not there yet.

    A recipe with `max_steps` takes as long for any number of rows.

    Args:
        results: the run's folder, for the logs and the rows.
        benchmarks: its folder of Snakemake's benchmark files.
    """
    entry = _stage(config, model, stage)
    data = [results / "chat" / f"{chat['set']}.json" for chat in sets_of(entry)]
    limited = read_mapping(entry["recipe"]).get("max_steps", -1) > 0  # -1: all epochs
    row_seconds = []
    for other, made in config["models"].items():
        for done in made.get("posttrain", ()):
            log = results / "posttrain" / other / done["stage"] / "log.jsonl"
            seconds = job_seconds(benchmarks / "posttrain" / other / f"{done['stage']}.tsv")
            if done["recipe"] == entry["recipe"] and seconds and log.exists():
                with open(log, encoding="utf-8") as opened:
                    head = json.loads(opened.readline())
                row_seconds.append(seconds[0] / (1 if limited else head["rows"]))
    if not row_seconds or not all(file.exists() for file in data):
        return None
    counts = [
        chat.get("repeat", 1) * json.loads(file.read_text(encoding="utf-8"))["rows"]
        for chat, file in zip(sets_of(entry), data, strict=True)
    ]
    rows = 1 if limited else sum(counts)
    return START + math.ceil(SLOWER * max(row_seconds) * rows / 60)


def _stage(config: Mapping[str, Any], model: str, stage: str) -> Mapping[str, Any]:
    stage_entry: Mapping[str, Any] = next(
        entry for entry in config["models"][model]["posttrain"] if entry["stage"] == stage
    )
    return stage_entry


def job_minutes(benchmarks: Path, rule: str) -> int | None:
    """Return the minutes to ask for for a job of a rule.

    Twice the longest that was timed, and a start; None where none was.
    """
    seconds = job_seconds(benchmarks / rule)
    return BEGIN + math.ceil(LONGER * max(seconds) / 60) if seconds else None
