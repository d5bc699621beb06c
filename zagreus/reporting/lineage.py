"""The graph of manifests: from a score back to the sha256 of every file that it rests on."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zagreus.errors import InputError
from zagreus.manifest import read_manifest, sha256_file


@dataclass
class Node:
    """An artifact: its manifest, the artifacts it was made from, and what it was made from besides.

    `changed` names the inputs whose bytes are no longer those recorded when this artifact was made.
    """

    path: str
    manifest: dict[str, Any]
    sha256: str
    parents: list[str] = field(default_factory=list)
    files: list[dict[str, Any]] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)

    @property
    def kind(self) -> str:
        return self.manifest["kind"]

    @property
    def name(self) -> str:
        return self.manifest["name"]

    @property
    def run(self) -> dict[str, Any]:
        """The circumstances beside the manifest; empty where they were not kept."""
        circumstances = Path(self.path).with_suffix(".run.json")
        return (
            json.loads(circumstances.read_text(encoding="utf-8")) if circumstances.is_file() else {}
        )


class Lineage:
    """Every manifest that can be reached from some of them by way of `inputs`, in a fixed order.

    Parents before children.
    """

    def __init__(self, roots: Iterable[Path | str]):
        self.nodes: dict[str, Node] = {}
        self._plain: set[str] = set()
        for root in roots:
            self._walk(str(root))

    def _walk(self, root: str) -> None:
        """Add `root` and all before it. An explicit stack.

        A chain of segments may be longer than Python's recursion limit.
        """
        stack = [(root, False)]
        while stack:
            path, parents_done = stack.pop()
            if path in self.nodes:
                continue
            node = self._read(path)
            if parents_done or not node.parents:
                self.nodes[path] = node
            else:
                stack.append((path, True))
                stack.extend((parent, False) for parent in reversed(node.parents))

    def of_kind(self, kind: str) -> Iterator[Node]:
        """Yield the artifacts of one kind."""
        return (node for node in self.nodes.values() if node.kind == kind)

    def ancestors(self, path: Path | str) -> Iterator[Node]:
        """Yield an artifact and everything it was made from, nearest first, each once."""
        seen, queue = set(), [str(path)]
        while queue:
            current = queue.pop(0)
            if current not in seen:
                seen.add(current)
                yield self.nodes[current]
                queue.extend(self.nodes[current].parents)

    def nearest(self, path: Path | str, kind: str) -> Node | None:
        """Return the nearest artifact of a kind among an artifact and those it was made from."""
        return next((node for node in self.ancestors(path) if node.kind == kind), None)

    def check(self) -> tuple[int, list[str]]:
        """Compare every link's recorded sha256 with the manifest as it is now.

        Returns:
            The number of links, and the broken ones as `CHILD <- PARENT`.
        """
        links = sum(len(node.parents) for node in self.nodes.values())
        return links, [
            f"{node.path} <- {parent}" for node in self.nodes.values() for parent in node.changed
        ]

    def _read(self, path: str) -> Node:
        manifest = read_manifest(path)
        for key in ("name", "inputs", "outputs"):
            if key not in manifest:
                raise InputError(f"{path}: not a manifest, it has no key '{key}'")
        node = Node(path, manifest, sha256_file(path))
        for item in manifest["inputs"]:
            parent = item["path"]
            if parent in node.parents:
                continue
            if self._is_manifest(parent, path):
                node.parents.append(parent)
                if sha256_file(parent) != item["sha256"]:
                    node.changed.append(parent)
            else:
                node.files.append(item)
        return node

    def _is_manifest(self, path: str, child: str) -> bool:
        """Say whether an input of `child` is an artifact's manifest or an ordinary file.

        A file may be gone by now, a manifest may not.
        """
        if path in self.nodes:
            return True
        if path in self._plain or not path.endswith(".json"):
            return False
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise InputError(f"{path}: no such manifest, {child} was made from it") from None
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise InputError(
                f"{path}: not a manifest, invalid JSON ({error}), {child} was made from it"
            ) from None
        if isinstance(content, dict) and "kind" in content and "outputs" in content:
            return True
        self._plain.add(path)
        return False
