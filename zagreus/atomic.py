"""Files and folders that appear whole or not at all: written under a temporary name, then renamed.

An artifact of several files is whole once its manifest is written (`settle`). What a program that
fails had put in place before that is withdrawn.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from zagreus.failures import mark

# What this process has put in place since the last manifest, and where nothing was before.
_unsettled: list[Path] = []


def settle() -> None:
    """What was put in place stays: a manifest vouches for it."""
    _unsettled.clear()


def withdraw() -> None:
    """Remove what was put in place without a manifest; an error in doing so ends nothing."""
    while _unsettled:
        path = _unsettled.pop()
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            try:
                path.unlink(missing_ok=True)
            except OSError:
                continue


@contextmanager
def atomic_file(path: Path | str, settled: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside `path`.

    It is synced and renamed to `path` when the block succeeds, removed when it fails.

    Args:
        settled: the file is whole by itself: it stays whatever happens to the program afterwards.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        with open(partial, "rb") as written:
            os.fsync(written.fileno())
        fresh = not path.exists()
        os.replace(partial, path)
        if fresh and not settled:
            _unsettled.append(path.absolute())
    except Exception as error:
        mark(error, path)
        raise
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path | str, settled: bool = False) -> Iterator[Path]:
    """Yield a fresh temporary folder beside `path`.

    It takes the place of `path` (and of what was there) when the block succeeds.

    Args:
        settled: the folder is whole by itself: it stays whatever happens to the program afterwards.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        yield partial
        if path.exists():
            # os.replace cannot put a folder over a full one: the old one steps aside first.
            old = path.with_name(f".{path.name}.old")
            shutil.rmtree(old, ignore_errors=True)
            os.replace(path, old)
            os.replace(partial, path)
            shutil.rmtree(old)
        else:
            os.replace(partial, path)
        if not settled:
            _unsettled.append(path.absolute())
    except Exception as error:
        mark(error, path)
        raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
