"""Two runs, artifact by artifact: which are the same, and which are the first that differ."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from zagreus.proof.run_folder import Artifact, RunFolder

# Facts that say what was asked for come before facts that were measured on the result.
ASKED_FIRST = (
    *("recipe", "fingerprint", "entry", "source", "options", "seed", "trainer"),
    "arithmetic",
)
# Tables of times and what is drawn from them differ between identical runs.
NOT_REPRODUCIBLE = ("tables", "figures", "report")
SHOWN_VALUE = 60


@dataclass(frozen=True)
class Difference:
    """One thing in which two artifacts of the same name differ.

    `cause` is input, recipe, data, software, code or bytes; `words` is one line for a reader.
    """

    cause: str
    words: str


@dataclass
class Pair:
    """An artifact that is in both runs.

    Attributes:
        path: the manifest's path below both folders.
        title: kind and name.
        same: whether both consist of the same bytes.
        parents: paths of the artifacts that either was made from.
        differences: why the two differ; only for the first that differ on a path.
        after: number of artifacts that differ only behind this one.
    """

    path: str
    title: str
    same: bool
    parents: set[str]
    differences: list[Difference] = field(default_factory=list)
    after: int = 0


@dataclass(frozen=True)
class Compared:
    """Two runs side by side: `pairs` by path, and the artifacts of one run alone."""

    pairs: dict[str, Pair]
    only_first: list[str]
    only_second: list[str]

    @property
    def first_differing(self) -> list[Pair]:
        """The artifacts that differ although everything that they were made from is the same."""
        return [pair for pair in self.pairs.values() if pair.differences]


def compare_runs(first: RunFolder, second: RunFolder) -> Compared:
    """Return which artifacts of two runs are the same, and why the first that differ do so."""
    common = [path for path in first.artifacts if path in second.artifacts]
    pairs = {path: _pair(first, second, path) for path in common}
    for path, pair in pairs.items():
        changed_parents = any(parent in pairs and not pairs[parent].same for parent in pair.parents)
        if not pair.same and not changed_parents:
            one, other = first.artifacts[path], second.artifacts[path]
            pair.differences = list(_differences(first, second, one, other))
    for pair in pairs.values():
        if not pair.same and not pair.differences:
            for root in _roots(pairs, pair.path):
                pairs[root].after += 1
    return Compared(
        pairs,
        [path for path in first.artifacts if path not in second.artifacts],
        [path for path in second.artifacts if path not in first.artifacts],
    )


def content(run: RunFolder, artifact: Artifact) -> dict[str, str]:
    """Return the sha256 of each file that an artifact consists of, by path below the run."""
    outputs = artifact.manifest["outputs"]
    return {run.inside(item["path"]) or item["path"]: item["sha256"] for item in outputs}


def parents(run: RunFolder, artifact: Artifact) -> set[str]:
    """Return the places of the artifacts that an artifact was made from."""
    inputs = {run.inside(item["path"]) for item in artifact.manifest["inputs"]}
    return {path for path in inputs if path in run.artifacts}


def _pair(first: RunFolder, second: RunFolder, path: str) -> Pair:
    one, other = first.artifacts[path], second.artifacts[path]
    same = content(first, one) == content(second, other) and _facts(first, one) == _facts(
        second, other
    )
    return Pair(path, one.title, same, parents(first, one) | parents(second, other))


def _roots(pairs: Mapping[str, Pair], path: str) -> Iterator[str]:
    """Yield the first differing artifacts behind one that differs."""
    seen, queue = set(), [path]
    while queue:
        current = queue.pop()
        if current in seen or current not in pairs or pairs[current].same:
            continue
        seen.add(current)
        if pairs[current].differences:
            yield current
        queue.extend(pairs[current].parents)


def _facts(run: RunFolder, artifact: Artifact) -> Any:
    """Return what a manifest says besides its files and software, with the run's folder cut."""
    left_out = ("inputs", "outputs", "software", "versions")
    facts = {key: value for key, value in artifact.manifest.items() if key not in left_out}
    return _without_folder(facts, f"{run.recorded}/")


def _without_folder(value: Any, folder: str) -> Any:
    if isinstance(value, str):
        return value.replace(folder, "")
    if isinstance(value, list):
        return [_without_folder(item, folder) for item in value]
    if isinstance(value, dict):
        return {key: _without_folder(item, folder) for key, item in value.items()}
    return value


def _differences(
    first: RunFolder, second: RunFolder, one: Artifact, other: Artifact
) -> Iterator[Difference]:
    """Yield why two artifacts differ, what was asked for before what came out."""
    yield from _inputs(first, second, one, other)
    requested: list[Difference] = []
    results: list[Difference] = []
    for path, left, right in _changed(_facts(first, one), _facts(second, other)):
        row = Difference("recipe", f"{path}: {_shown(left)} against {_shown(right)}")
        (requested if path.split(".")[0].split("[")[0] in ASKED_FIRST else results).append(row)
    yield from requested
    yield from _software(one, other)
    if not requested:
        yield from (Difference("data", row.words) for row in results)
    left, right = content(first, one), content(second, other)
    changed = sorted(name for name in {*left, *right} if left.get(name) != right.get(name))
    if changed:
        yield Difference("bytes", f"other bytes in {', '.join(changed[:3])}{_more(changed, 3)}")
    yield from _machine(one, other)


def _inputs(
    first: RunFolder, second: RunFolder, one: Artifact, other: Artifact
) -> Iterator[Difference]:
    """Yield the files, artifacts apart, that differ among what two artifacts were made from."""
    sides = []
    for run, artifact in ((first, one), (second, other)):
        named = {
            run.inside(i["path"]) or i["path"]: i["sha256"] for i in artifact.manifest["inputs"]
        }
        sides.append(named)
    left, right = sides
    for name in sorted({*left, *right}):
        if name in first.artifacts and name in second.artifacts:
            continue  # an artifact: this pair's parents are the same
        if name not in right:
            yield Difference("input", f"{name} is an input of the first alone")
        elif name not in left:
            yield Difference("input", f"{name} is an input of the second alone")
        elif left[name] != right[name]:
            yield Difference("input", f"{name}: {left[name][:12]}... against {right[name][:12]}...")


def _software(one: Artifact, other: Artifact) -> Iterator[Difference]:
    left, right = one.manifest.get("versions", {}), other.manifest.get("versions", {})
    for name in sorted({*left, *right}):
        if left.get(name) != right.get(name):
            yield Difference("software", f"{name} {left.get(name)} against {right.get(name)}")
    if one.manifest.get("software") != other.manifest.get("software"):
        yield Difference(
            "software",
            f"image {one.manifest.get('software')} against {other.manifest.get('software')}",
        )


def _machine(one: Artifact, other: Artifact) -> Iterator[Difference]:
    """Yield what differs in how two artifacts came about: the code's commit, the processor."""
    for key, cause, name in (("cpu", "machine", "processor"), ("git_commit", "code", "commit")):
        left, right = one.run_metadata.get(key), other.run_metadata.get(key)
        if left != right:
            yield Difference(cause, f"{name} {_shown(left)} against {_shown(right)}")


def _changed(left: Any, right: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield each value that differs between two JSON values, with the path of its keys."""
    if isinstance(left, dict) and isinstance(right, dict):
        for key in sorted({*left, *right}):
            below = f"{path}.{key}" if path else str(key)
            yield from _changed(left.get(key), right.get(key), below)
    elif isinstance(left, list) and isinstance(right, list) and len(left) == len(right):
        for index, (one, other) in enumerate(zip(left, right, strict=True)):
            yield from _changed(one, other, f"{path}[{index}]")
    elif left != right:
        yield path, left, right


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= SHOWN_VALUE else text[: SHOWN_VALUE - 3] + "..."


def _more(items: list[str], shown: int) -> str:
    return f" and {len(items) - shown} more" if len(items) > shown else ""
