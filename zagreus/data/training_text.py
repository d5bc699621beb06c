"""The text that models are trained on, as one kind of documents: sources and conversations."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from zagreus.data.parquet import read_texts
from zagreus.errors import InputError
from zagreus.manifest import read_manifest
from zagreus.records import read_records


def documents(manifest: Path) -> Iterator[tuple[str, str]]:
    """Yield (id, text) of what a model is trained on.

    Documents, or conversations with all their messages in a row.
    """
    kind = read_manifest(manifest)["kind"]
    if kind == "source":
        yield from read_texts(
            manifest.with_suffix(".parquet"), manifest.with_suffix(".parquet").name, "text", "id"
        )
    elif kind == "chat":
        rows = manifest.with_suffix(".jsonl")
        for record in read_records(rows, empty=True):
            row = record.value
            try:
                messages = row.get("conversation") or [
                    *row["messages"],
                    row["chosen"],
                    row["rejected"],
                ]
                yield row["id"], "\n".join(message["content"] for message in messages)
            except (KeyError, TypeError):
                expected = "not a row of chat data (id, conversation or messages)"
                raise InputError(f"{rows}:{record.row}: {expected}") from None
    else:
        raise InputError(f"{manifest}: a manifest of kind '{kind}', expected source or chat")
