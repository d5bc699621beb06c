"""What a hung collective left behind, in one line.

Which rank did not enter which one, in which step.

    python -P -m zagreus.cluster.hang results/zagreus/pretrain/ita/flight-recorder

reads what torch's flight recorder dumped when a collective ran out of time (`rank_N`, a pickle;
torch/csrc/distributed/c10d/FlightRecorder.hpp, version 2), and the notes that the trainer keeps
beside it (`rank_N.json`, zagreus/training/watch.py). The standard library alone: it runs where the
ranks have died.
"""

from __future__ import annotations

import io
import json
import pickle
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zagreus.errors import InputError, run

PREFIX = "rank_"


class _Plain(pickle.Unpickler):
    """Reads numbers, texts, lists and mappings, and nothing that could run."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"{module}.{name}")


def read_dumps(folder: Path) -> dict[int, dict[str, Any]]:
    """Return the dumps by rank; those that are cut off are left out."""
    dumps = {}
    for path in sorted(folder.glob(f"{PREFIX}*")):
        number = re.fullmatch(rf"{PREFIX}(\d+)", path.name)
        if number:
            try:
                dumps[int(number[1])] = _Plain(io.BytesIO(path.read_bytes())).load()
            except (pickle.UnpicklingError, EOFError, ValueError, IndexError, AttributeError):
                continue
    return dumps


def read_notes(folder: Path) -> dict[int, dict[str, Any]]:
    """Return the trainer's notes by rank.

    `host`, and of one step `step`, `collectives`, `per_step`.
    """
    notes = {}
    for path in folder.glob(f"{PREFIX}*.json"):
        try:
            notes[int(path.stem.removeprefix(PREFIX))] = json.loads(
                path.read_text(encoding="utf-8")
            )
        except ValueError:
            continue
    return notes


def explain(folder: Path) -> str | None:
    """Return the line; None where there is no dump.

    The ranks that entered the fewest collectives are the ones that the others wait for. A rank
    without a dump is dead, or so stuck that its watchdog does not run.
    """
    dumps = read_dumps(folder)
    if not dumps:
        return None
    notes = read_notes(folder)
    entered = {rank: _last(dump) for rank, dump in dumps.items()}
    most = max(entered.values())
    # The ranks of the whole group by the recorder's own list, or else those that were noted.
    listed = next(iter(dumps.values())).get("pg_config", {}).values()
    ranks = (
        {
            int(number)
            for group in listed
            for number in re.findall(r"\d+", str(group.get("ranks", "")))
        }
        | set(notes)
        | set(dumps)
    )
    silent = sorted(ranks - set(dumps))
    behind = sorted(rank for rank, last in entered.items() if last < most)
    if silent:
        known = [rank for rank in entered if entered[rank] == most]
        return (
            f"{_names(silent, notes)} left no dump; {_names(known[:1], notes)} waits in "
            f"{_collective(most, dumps, notes)}"
        )
    if behind:
        least = min(entered[rank] for rank in behind)
        first = [rank for rank in behind if entered[rank] == least]
        return f"{_names(first, notes)} did not enter {_collective(least + 1, dumps, notes)}"
    return (
        f"all ranks entered {_collective(most, dumps, notes)} and it did not end: the "
        "network, or a GPU"
    )


def _last(dump: Mapping[str, Any]) -> int:
    """Return the number of the last collective that a rank entered, from 1; 0 for none."""
    return max((int(entry["collective_seq_id"]) for entry in _entries(dump)), default=0)


def _entries(dump: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the collectives of the group of all ranks: the first one that was made."""
    entries = [entry for entry in dump.get("entries", ()) if not entry.get("is_p2p")]
    first = min((int(entry.get("pg_id", 0)) for entry in entries), default=0)
    return [entry for entry in entries if int(entry.get("pg_id", 0)) == first]


def _collective(
    number: int, dumps: Mapping[int, Mapping[str, Any]], notes: Mapping[int, Mapping[str, Any]]
) -> str:
    """Return the name of a collective.

    `all-reduce 12 of step 4,001`, or by its number in the run.
    """
    kinds = (
        entry["profiling_name"]
        for dump in dumps.values()
        for entry in _entries(dump)
        if int(entry["collective_seq_id"]) == number
    )
    kind = (
        next(kinds, "collective")
        .rpartition(":")[2]
        .strip("_")
        .replace("allreduce", "all_reduce")
        .replace("_", "-")
    )
    # The newest note before it: of a rank that went on longest.
    note = max(
        (
            candidate
            for candidate in notes.values()
            if candidate.get("per_step") and candidate["collectives"] < number
        ),
        key=_step,
        default=None,
    )
    if note is None:
        return f"{kind} {number:,} of the run"
    steps, index = divmod(number - note["collectives"] - 1, note["per_step"])
    return f"{kind} {index + 1} of step {note['step'] + 1 + steps:,}"


def _step(note: Mapping[str, Any]) -> int:
    return int(note["step"])


def _names(ranks: list[int], notes: Mapping[int, Mapping[str, Any]]) -> str:
    """Return `rank 37 on a100-05`; of many the first three."""
    named = [
        f"rank {rank}" + (f" on {notes[rank]['host']}" if rank in notes else "")
        for rank in ranks[:3]
    ]
    further = f" and {len(ranks) - 3} more" if len(ranks) > 3 else ""
    return ", ".join(named) + further


def main() -> None:
    """Print the line for a folder."""
    folder = Path(sys.argv[1])
    line = explain(folder)
    if line is None:
        raise InputError(f"{folder}: no dump of the flight recorder ({PREFIX}N)")
    print(line)


if __name__ == "__main__":
    run(main)
