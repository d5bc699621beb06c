"""What a configuration names outside the repository.

The images see the repository and /tmp alone, and are given the rest.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from zagreus.config.start_checks import local_paths
from zagreus.errors import InputError

# What every image has by itself, the system's folder for temporary files.
SEEN = Path("/tmp")


def outside_paths(config: Mapping[str, Any], files: Iterable[str | Path]) -> list[str]:
    """Return the folders and files to bind into every image, in order.

    A link within the repository to another disk is followed: its target must be seen too.

    Args:
        config: the whole configuration.
        files: the files that it was read from; a job copies them.

    Raises:
        InputError: a path with a colon or a comma, which `--bind` reads as something else.
    """
    here = Path.cwd().resolve()
    places = {path.resolve() for path in _named(config, files)}
    outside = {
        location
        for location in places
        if not location.is_relative_to(here) and not location.is_relative_to(SEEN)
    }
    alone = sorted(
        str(location) for location in outside if not outside.intersection(location.parents)
    )
    for path in alone:
        if re.search("[:,]", path):
            raise InputError(
                f"'{path}' has a ':' or a ',' in its path, with which it cannot be given to an "
                "image"
            )
    return alone


def _named(config: Mapping[str, Any], files: Iterable[str | Path]) -> Iterator[Path]:
    yield from map(Path, config["pathvars"].values())
    yield from map(Path, files)
    for _, path, folder in local_paths(config):
        yield path if folder else _folder(path)
    for model in config["models"].values():
        for stage in [model["pretrain"]] if "pretrain" in model else model["posttrain"]:
            yield _folder(Path(stage["recipe"]))
    for suite in config["evaluations"].values():
        for task in suite["tasks"]:
            yield _folder(Path(task["recipe"]))


def _folder(file: Path) -> Path:
    """Return a file's folder: a file that is bound by itself cannot be replaced while jobs run.

    Not the root, which no image can be given.
    """
    folder = file.resolve().parent
    return file if folder == Path("/") else folder
