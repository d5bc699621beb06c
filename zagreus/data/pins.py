"""A configuration's items of the hub, pinned.

Their revisions replaced by commits, in the file's text, so that its comments stay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import yaml

from zagreus.config.yaml_file import parse_yaml
from zagreus.data.hub_layout import REVISION, converted_files
from zagreus.errors import InputError

# Sections whose repositories are the hub's models; those of all others are data sets.
MODELS = ("tokenizer", "baselines")


@dataclass(frozen=True)
class Pin:
    """What an entry of the configuration names.

    Where it stands, and what its revision is and becomes.
    """

    path: tuple[str, ...]
    repo: str
    revision: str
    commit: str
    sha256: dict[str, str]


def pin(
    text: str,
    where: str,
    commit_of: Callable[[str, str, str], str],
    hash_of: Callable[[str, str, str], str | None],
) -> tuple[str, list[Pin]]:
    """Return a configuration's text with every entry of the hub at the commit that its revision
    names, and what was found.

    An item of evaluation data also gets the `sha256` of each of its files that the hub has one of.
    Not an entry for several languages: its files are named by language, and the commit pins them.

    Args:
        text: the YAML file.
        where: its name, for messages.
        commit_of: repository, revision and kind to commit, as `zagreus.data.hub.commit_of`.
        hash_of: repository, commit and file to sha256, as `zagreus.data.hub.hash_of`.

    Raises:
        InputError: the text is no YAML mapping, an entry lacks its repository or revision, or the
            hub has no such repository, revision or file.
    """
    content = parse_yaml(text, where)
    root = yaml.compose(text)
    if not isinstance(root, yaml.MappingNode):
        raise InputError(f"{where}: no configuration, a YAML mapping is expected")
    edits: list[tuple[int, int, str]] = []
    pins, pinned = [], deepcopy(content)
    commits: dict[tuple[str, str, str], str] = {}  # many entries name the same repository
    for path, node in _entries(root):
        entry = _at(content, path)
        if path[0] == "evaluation_data" and "kind" not in entry:
            entry = {"revision": REVISION} | entry
        if missing := {"repo", "revision"} - entry.keys():
            raise InputError(
                f"{where}, line {node.start_mark.line + 1}: '{'.'.join(path)}' has no "
                f"'{min(missing)}'"
            )
        key = (entry["repo"], entry["revision"], "model" if path[0] in MODELS else "dataset")
        if key not in commits:
            commits[key] = commit_of(*key)
        files = _files(entry) if path[0] == "evaluation_data" else {}
        hashes = {
            split: digest
            for split, name in files.items()
            if (digest := hash_of(entry["repo"], commits[key], name))
        }
        pins.append(Pin(path, entry["repo"], entry["revision"], commits[key], hashes))
        edits += _edits(node, where, commits[key], hashes)
        _at(pinned, path).update(
            {"revision": commits[key]} | ({"sha256": hashes} if hashes else {})
        )
    for start, end, new in sorted(edits, reverse=True):
        text = text[:start] + new + text[end:]
    assert yaml.safe_load(text) == pinned
    return text, pins


def _entries(
    node: yaml.Node, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], yaml.MappingNode]]:
    """Yield the mappings that name a repository of the hub, and their places."""
    if not isinstance(node, yaml.MappingNode):
        return
    values = {key.value: value for key, value in node.value}
    benchmark = path[:1] == ("evaluation_data",) and "repo" in values
    if path and (values["kind"].value == "huggingface" if "kind" in values else benchmark):
        yield path, node
        return
    for key, value in values.items():
        yield from _entries(value, (*path, key))


def _files(entry: Mapping[str, Any]) -> dict[str, str]:
    """Return the files of an evaluation data set by split; none of an entry for several
    languages.
    """
    if "languages" in entry:
        return {}
    files: dict[str, str] = entry.get("files") or converted_files(entry.get("splits", []))
    return files


def _at(content: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        content = content[key]
    return content


def _edits(
    node: yaml.MappingNode, where: str, commit: str, hashes: dict[str, str]
) -> Iterator[tuple[int, int, str]]:
    """Yield what to replace in the text, (start, end, by what).

    Quoted, as a commit of digits alone would be read as a number.
    """
    nodes = {key.value: (key, value) for key, value in node.value}
    key = nodes["repo"][0]
    table = "{" + ", ".join(f'{split}: "{digest}"' for split, digest in hashes.items()) + "}"
    added = ""
    if hashes and "sha256" in nodes:
        old = nodes["sha256"][1]
        if not old.flow_style:
            raise InputError(
                f"{where}, line {old.start_mark.line + 1}: sha256 over several lines; write it as "
                f"{{split: hash}} in one, or take it out"
            )
        yield old.start_mark.index, old.end_mark.index, table
    elif hashes:
        added = (
            f", sha256: {table}"
            if node.flow_style
            else f"\n{' ' * key.start_mark.column}sha256: {table}"
        )
    if "revision" in nodes:
        revision = nodes["revision"][1]
        yield revision.start_mark.index, revision.end_mark.index, f'"{commit}"{added}'
        return
    end = nodes["repo"][1].end_mark.index
    between = ", " if node.flow_style else f"\n{' ' * key.start_mark.column}"
    yield end, end, f'{between}revision: "{commit}"{added}'
