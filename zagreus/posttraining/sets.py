"""The data sets of a post-training stage: which rows are taken, and how often.

Standard library only: the host asks for the names, the job mixes the rows.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from zagreus.atomic import atomic_file
from zagreus.errors import InputError
from zagreus.losses import MAX_LOST_ROWS
from zagreus.records import read_records, shortened

Row = dict[str, Any]


def sets_of(stage: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the entries of a stage's `data`; one name stands for one whole set."""
    data = stage["data"]
    return [{"set": data}] if isinstance(data, str) else list(data)


def names_of(stage: Mapping[str, Any]) -> list[str]:
    """Return the chat data sets of a stage, each once, in their order."""
    return list(dict.fromkeys(entry["set"] for entry in sets_of(stage)))


def set_problems(stage: Mapping[str, Any], recipe: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with the list of a stage's data sets."""
    if isinstance(stage["data"], str):
        return
    weighted = [entry for entry in stage["data"] if "weight" in entry]
    if weighted and len(weighted) < len(stage["data"]):
        yield "some sets have a weight and others have none; expected all or none"
    both = [entry["set"] for entry in stage["data"] if "weight" in entry and "repeat" in entry]
    if both:
        yield f"'{both[0]}' has a weight and a repeat; expected one of them"
    repeated = any(entry.get("repeat", 1) > 1 for entry in stage["data"])
    if repeated and recipe.get("val_set_size"):
        yield (
            f"a set is repeated and the recipe has val_set_size {recipe['val_set_size']}: copies "
            "of a validation row would be trained on; expected val_set_size 0"
        )


def mix_rows(
    files: Mapping[str, Path], sets: Sequence[Mapping[str, Any]], mixed: Path
) -> list[dict[str, Any]]:
    """Write the rows of several sets as one file, and return the counts of each set.

    The order depends on the rows' ids alone. `repeat` takes the filtered rows so many times.
    `weight` is a share: the total is the largest for which no set needs a row twice.

    Args:
        files: JSON lines of each set, by its name.
        sets: `{set, weight or repeat, where}`.
        mixed: the file that is written.

    Returns:
        for each entry its `set`, the `rows` of the set, those `filtered` and those `taken`.

    Raises:
        InputError: a filter names a column that a row lacks, or keeps no row.
    """
    chosen, counts = [], []
    for number, entry in enumerate(sets):
        row_count, kept = _filtered(files[entry["set"]], entry, f"data.{number}")
        chosen.append(kept)
        counts.append({"set": entry["set"], "rows": row_count, "filtered": len(kept)})
    taken = _taken([len(rows) for rows in chosen], sets)
    copies: list[tuple[bytes, Row]] = []
    for number, (rows, total) in enumerate(zip(chosen, taken, strict=True)):
        counts[number]["taken"] = total
        for position in range(total):
            copy, index = divmod(position, len(rows))
            key = f"{number}/{copy}/{rows[index]['id']}"
            copies.append((hashlib.sha256(key.encode("utf-8")).digest(), rows[index]))
    copies.sort(key=lambda item: item[0])
    with atomic_file(mixed) as partial, open(partial, "w", encoding="utf-8") as opened:
        for _, row in copies:
            plain = {key: value for key, value in row.items() if key != "columns"}
            opened.write(json.dumps(plain, ensure_ascii=False) + "\n")
    return counts


def mix_lines(counts: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield a line for each entry of the counts of `mix_rows`."""
    for entry in counts:
        yield (
            f"{entry['set']}: {entry['filtered']:,} of {entry['rows']:,} rows pass the filters; "
            f"{entry['taken']:,} rows taken"
        )


def combined(manifests: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what several sets' manifests say together, for checks and for the model card.

    The strictest limits hold: the lowest `max_lost_rows`, and `error` for `on_special`.
    """
    entries = [manifest.get("entry", {}) for manifest in manifests]
    lost = min(entry.get("max_lost_rows", MAX_LOST_ROWS) for entry in entries)
    drop = all(entry.get("on_special") == "drop" for entry in entries)
    return {
        "name": ", ".join(manifest["name"] for manifest in manifests),
        "form": manifests[0]["form"],
        "rows": sum(manifest["rows"] for manifest in manifests),
        "rows_heldout": sum(manifest["rows_heldout"] for manifest in manifests),
        "origins": [origin for manifest in manifests for origin in manifest["origins"]],
        "entry": {"max_lost_rows": lost, "on_special": "drop" if drop else "error"},
    }


def _taken(rows: Sequence[int], sets: Sequence[Mapping[str, Any]]) -> list[int]:
    """Return how many rows each set gives."""
    if not any("weight" in entry for entry in sets):
        return [count * entry.get("repeat", 1) for count, entry in zip(rows, sets, strict=True)]
    whole = sum(entry["weight"] for entry in sets)
    shares = [entry["weight"] / whole for entry in sets]
    total = min(count / share for count, share in zip(rows, shares, strict=True))
    # A share such as 1/3 must not lose a row to rounding.
    return [
        min(count, max(1, int(total * share + 1e-6)))
        for count, share in zip(rows, shares, strict=True)
    ]


def _filtered(file: Path, entry: Mapping[str, Any], where: str) -> tuple[int, list[Row]]:
    """Return (the rows of the set, those that pass the filters)."""
    conditions, row_count, kept = entry.get("where", {}), 0, []
    for record in read_records(file, empty=True):
        row_count += 1
        columns = record.value.get("columns", {})
        for column in conditions:
            if column not in columns:
                raise InputError(
                    f"{where}.where: {file}, {record.location} has no column {column!r}, only "
                    f"{sorted(columns)}; `columns.keep` of chat.{entry['set']} keeps columns"
                )
        if all(_passes(columns[column], expected) for column, expected in conditions.items()):
            kept.append(record.value)
    if not kept:
        raise InputError(f"{where}: none of {row_count:,} rows of '{entry['set']}' passes `where`")
    return row_count, kept


def _passes(value: Any, expected: Any) -> bool:
    """Return whether a value is the one, among those or within the bounds that are wanted."""
    if isinstance(expected, Mapping):
        if isinstance(value, bool) or not isinstance(value, int | float):
            if value is None:
                return False
            raise InputError(f"where: found {shortened(value)}, expected a number for min and max")
        return bool(expected.get("min", value) <= value <= expected.get("max", value))
    options = expected if isinstance(expected, list) else [expected]
    return any(type(value) is type(option) and value == option for option in options) or (
        not isinstance(value, bool)
        and isinstance(value, int | float)
        and any(value == option for option in options if not isinstance(option, bool))
    )
