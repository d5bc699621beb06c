"""Token folders.

Datatrove's `.ds` shards, read as nanotron reads them (`DatatroveFolderDataset`).
"""

from __future__ import annotations

import hashlib
import os
from bisect import bisect_right
from pathlib import Path
from typing import BinaryIO

import numpy as np

from zagreus.errors import InputError
from zagreus.recipe.schema import DataStage, Recipe

# Files of a folder that are open at a time. Reading goes from one to the next; epochs jump between
# all.
OPEN = 8


class TokenFolder:
    """The windows of a folder.

    Files in order of their paths, each cut into windows of `sequence_length` + 1 tokens without
    overlap;
    what is left at a file's end is not used."""

    def __init__(
        self,
        path: str,
        sequence_length: int,
        shuffle_seed: int | None = None,
        epoch_seed: int | None = None,
    ) -> None:
        """Open a folder; raise `InputError` where it holds no shard, or one that is cut off.

        One without a token is none the worse.

        Args:
            path: folder with `NAME.ds`, `NAME.ds.index` and `NAME.ds.metadata` (whose first lines
                are `TOKENIZER|BYTES A TOKEN` and the number of tokens).
            sequence_length: tokens that the model sees at a time.
            shuffle_seed: permutes the files where the recipe says `shuffle_files`.
            epoch_seed: given, what follows the last window is the folder again, in an order of this
                seed and of the epoch.
        """
        self.path, self.width, self.epoch_seed = path, sequence_length + 1, epoch_seed
        self.files = sorted(Path(path).glob("*.ds"))
        if not self.files:
            raise InputError(f"{path}: no token shard (*.ds) in the folder")
        if shuffle_seed is not None:
            self.files = [
                self.files[index]
                for index in np.random.default_rng(shuffle_seed).permutation(len(self.files))
            ]
        self.dtype, _ = _metadata(self.files[0])
        self.ends: list[int] = []  # windows up to the end of each file
        total = 0
        for file in self.files:
            size, (dtype, tokens) = file.stat().st_size, _metadata(file)
            if dtype != self.dtype or size != tokens * dtype.itemsize:
                raise InputError(
                    f"{file}: {size} bytes, its metadata says {tokens} tokens of {dtype.itemsize} "
                    f"bytes; the folder's first shard has {self.dtype.itemsize} a token"
                )
            total += size // self.dtype.itemsize // self.width
            self.ends.append(total)
        self._opened: dict[Path, BinaryIO] = {}  # the last ones that were read

    def __len__(self) -> int:
        """Windows in the folder."""
        return self.ends[-1]

    def identity(self) -> list[list]:
        """Return `[file name, bytes]` of each shard, in reading order."""
        return [[file.name, file.stat().st_size] for file in self.files]

    def locate(self, window: int) -> tuple[Path, int]:
        """Return the file of a window and the window's number in it.

        Raise `InputError` past the end of a folder that is read once.
        """
        epoch, window = divmod(window, len(self)) if len(self) else (1, 0)
        if epoch:
            if self.epoch_seed is None or not len(self):
                raise InputError(
                    f"{self.path}: the folder's {len(self)} windows of {self.width} tokens are "
                    "used up; give it more or less weight"
                )
            window = permuted(window, len(self), f"{self.epoch_seed}/{epoch}")
        index = bisect_right(self.ends, window)
        return self.files[index], window - (self.ends[index - 1] if index else 0)

    def read(self, window: int) -> np.ndarray:
        """Return the tokens of a window, int64, [sequence_length + 1].

        Raises:
            InputError: past the end of the folder; the file system does not give the window. (A
                mapped file would end the process by SIGBUS then, without a word.)
        """
        file, position = self.locate(window)
        size = self.width * self.dtype.itemsize
        try:
            content = os.pread(self._descriptor(file), size, position * size)
        except OSError as error:
            raise InputError(f"{file}: cannot read window {position} ({error.strerror})") from error
        if len(content) < size:
            raise InputError(
                f"{file}: cut off, window {position} has {len(content)} of {size} bytes"
            )
        return np.frombuffer(content, dtype=self.dtype).astype(np.int64)

    def _descriptor(self, file: Path) -> int:
        """Return the descriptor of a file, which stays open until `OPEN` others of the folder were
        read.
        """
        if file not in self._opened:
            if len(self._opened) >= OPEN:
                self._opened.pop(next(iter(self._opened))).close()
            self._opened[file] = open(file, "rb", buffering=0)  # noqa: SIM115
        return self._opened[file].fileno()


def permuted(position: int, size: int, key: str) -> int:
    """Return where a permutation of 0..size-1 puts `position`, without holding the permutation.

    Four Feistel rounds over the next power of
    four, repeated until the result lies below `size` (Black and Rogaway, 2002)."""
    half = max(1, (size - 1).bit_length() + 1 >> 1)
    mask = (1 << half) - 1
    while True:
        left, right = position >> half, position & mask
        for turn in range(4):
            digest = hashlib.blake2b(f"{key}/{turn}/{right}".encode(), digest_size=8).digest()
            left, right = right, left ^ int.from_bytes(digest, "little") & mask
        position = left << half | right
        if position < size:
            return position


def open_folders(recipe: Recipe, stage: DataStage) -> list[TokenFolder]:
    """Open the token folders of a data stage, in its order.

    Raise `InputError` where it has none or one of them cannot be read.
    """
    dataset, seed = stage.data.dataset, stage.data.seed
    if not dataset.folders:
        raise InputError(f"the recipe's data stage '{stage.name}': dataset_folder: no folder")
    shuffle, again = (
        seed if dataset.shuffle_files else None,
        seed if recipe.zagreus.end_of_data == "epochs" else None,
    )
    return [
        TokenFolder(folder, recipe.tokens.sequence_length, shuffle, again)
        for folder in dataset.folders
    ]


def stage_weights(recipe: Recipe, stage: DataStage, folders: list[TokenFolder]) -> list[float]:
    """Return the share of each folder of a stage.

    As given, or what the recipe wants where no weights are given.
    """
    return stage.data.dataset.weights(
        [len(folder) for folder in folders] if recipe.zagreus.absent_weights == "length" else None
    )


def _metadata(shard: Path) -> tuple[np.dtype, int]:
    """Return the type of a shard's tokens, and how many they are, from its metadata."""
    metadata = shard.with_name(shard.name + ".metadata")
    if not metadata.exists():
        raise InputError(
            f"{metadata}: missing beside the token shard (an unfinished shard has none)"
        )
    first, count, *_ = [*metadata.read_text(encoding="utf-8").split("\n"), ""]
    size = first.rpartition("|")[2]
    if size not in ("2", "4") or not count.isdigit():
        raise InputError(
            f"{metadata}: begins with '{first}', '{count}', expected 'TOKENIZER|2' or "
            "'TOKENIZER|4', and the number of tokens"
        )
    return np.dtype("<u2" if size == "2" else "<u4"), int(count)
