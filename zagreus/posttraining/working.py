"""The working folder of a stage: prepared data, caches and checkpoints under a name that stands for
all that decides the result. Another base, recipe, data set or version never goes on from them.

How many processes train is no part of the name: the batch is the same (`share_batch`), and
checkpoints resume on any number of GPUs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from zagreus.launch.variables import FLIGHT_RECORDER
from zagreus.posttraining.checkpoints import free_name

ASIDE = "set-aside"


def digest(identity: Mapping[str, Any]) -> str:
    """Return the twelve hexadecimal digits that stand for an identity."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode("utf-8")).hexdigest()[:12]


def working_folder(
    work: Path, identity: Mapping[str, Any], processes: Iterable[int]
) -> tuple[Path, list[str]]:
    """Return the folder of an identity, and lines on the folders that were found under other names.

    A folder of before, whose name held the number of processes, is renamed. Folders of other
    identities are set aside in `work/set-aside`, never deleted.

    Args:
        work: the stage's folder.
        processes: the numbers of processes that such a folder may have been made with.
    """
    folder, lines = work / digest(identity), []
    older = [work / digest({**identity, "processes": number}) for number in processes]
    for previous in (path for path in older if path.is_dir()):
        if not folder.exists():
            previous.rename(folder)
            lines.append(f"goes on with {previous.name}, made with another number of processes")
    kept = (folder, work / ASIDE, work / FLIGHT_RECORDER)
    for other in sorted(path for path in work.glob("*/") if path not in kept):
        target = free_name(work / ASIDE / other.name)
        target.parent.mkdir(exist_ok=True)
        other.rename(target)
        lines.append(
            f"{other.name} is of another recipe, base, data set or version; set aside as {target}"
        )
    return folder, lines
