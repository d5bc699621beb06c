"""The reference hashes of a run: what its artifacts are on each kind of processor.

`reference/hashes_NAME.csv` holds them for the run in `results/NAME`, a row for each artifact and
for each file outside the run that artifacts were made from (recipes, downloads).
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from zagreus.atomic import atomic_file
from zagreus.errors import InputError
from zagreus.processor import kind_of
from zagreus.proof.compare import ASKED_FIRST, NOT_REPRODUCIBLE, Difference, content, parents
from zagreus.proof.run_folder import Artifact, RunFolder


@dataclass(frozen=True)
class Row:
    """One row.

    Attributes:
        artifact: the manifest below the run's folder, or the path of a file outside the run.
        sha256: of the artifact's files in the order of their names, or of the file outside.
        asked: sha256 of what was asked for (recipe, seed, options), 16 digits; empty for files.
        software: image that the artifact was made in; empty for files.
        kind: of the processor (`zagreus.processor.kind_of`).
        version: of this product.
    """

    artifact: str
    sha256: str
    asked: str
    software: str
    kind: str
    version: str


# What sums of floats are in: the others are the same bytes on every processor.
FLOAT_KINDS = ("checkpoint", "model", "scores", "samples", "ladder")
COLUMNS = [field.name for field in fields(Row)]


@dataclass(frozen=True)
class Checked:
    """A run against the reference of its kind of processor.

    Attributes:
        kind: of the processor that made the run.
        kept: the kinds of which a reference is kept.
        equal: number of artifacts that equal the reference.
        total: number of artifacts of run and reference together; 0 without a reference.
        first: the first artifact that differs, with what may be the cause; empty where all equal.
    """

    kind: str
    kept: list[str]
    equal: int = 0
    total: int = 0
    version: str = ""
    first: str = ""
    causes: tuple[Difference, ...] = ()

    def lines(self) -> list[str]:
        """Return what to tell people."""
        if not self.total:
            kept = f"kept are {', '.join(self.kept)}" if self.kept else "none is kept of any kind"
            return [f"no reference is kept for this kind of processor ({self.kind}); {kept}"]
        told = f"{self.equal} of {self.total} artifacts equal the reference"
        lines = [f"{told} ({self.kind}, version {self.version})"]
        if self.first:
            lines.append(f"{self.first} is the first that differs")
            lines += [f"  {cause.cause:9} {cause.words}" for cause in self.causes]
        return lines


def reference_path(run: RunFolder) -> Path:
    """Return where the reference of a run lies in the repository."""
    return Path("reference") / f"hashes_{run.recorded.name}.csv"


def product_version(citation: Path = Path("CITATION.cff")) -> str:
    """Return this product's version, as its citation file has it."""
    match = re.search(r"^version: *\"?([^\s\"]+)", citation.read_text(encoding="utf-8"), re.M)
    if match is None:
        raise InputError(f"{citation}: no line 'version: ...'")
    return match[1]


def rows_of(run: RunFolder, version: str) -> list[Row]:
    """Return the rows of a run.

    Raises:
        InputError: parts of the run were made on several kinds of processors.
    """
    kind = run_kind(run)
    kept = [
        item for item in run.artifacts.values() if item.manifest["kind"] not in NOT_REPRODUCIBLE
    ]
    rows = [
        Row(
            item.path,
            _joint(run, item),
            _request_hash(item),
            item.manifest["software"],
            kind,
            version,
        )
        for item in kept
    ]
    outside = {
        entry["path"]: entry["sha256"]
        for item in kept
        for entry in item.manifest["inputs"]
        if run.inside(entry["path"]) is None
    }
    rows += [Row(path, sha256, "", "", kind, version) for path, sha256 in outside.items()]
    return sorted(rows, key=lambda row: row.artifact)


def run_kind(run: RunFolder) -> str:
    """Return the kind of processor that a run was made on.

    Raises:
        InputError: there are several, or no artifact says.
    """
    kinds = Counter(
        kind_of(item.run_metadata["cpu"])
        for item in run.artifacts.values()
        if "cpu" in item.run_metadata and item.manifest["kind"] in FLOAT_KINDS
    )
    if not kinds:
        raise InputError(
            f"{run.root}: no model whose .run.json names its processor (a run of an older version?)"
        )
    if len(kinds) > 1:
        told = ", ".join(f"{kind} ({count} artifacts)" for kind, count in kinds.most_common())
        raise InputError(f"{run.root}: made on several kinds of processors: {told}")
    return next(iter(kinds))


def read_reference(path: Path) -> list[Row]:
    """Return all rows of a reference; none where the file is not there.

    Raises:
        InputError: the file has other columns.
    """
    if not path.is_file():
        return []
    with open(path, encoding="utf-8", newline="") as stream:
        reader = csv.DictReader(stream)
        if reader.fieldnames != COLUMNS:
            raise InputError(
                f"{path}: columns {', '.join(reader.fieldnames or ['none'])}, expected "
                f"{', '.join(COLUMNS)}"
            )
        return [Row(**row) for row in reader]


def write_reference(path: Path, rows: Sequence[Row]) -> None:
    """Write the rows of one kind of processor; those of other kinds stay."""
    others = [row for row in read_reference(path) if row.kind != rows[0].kind]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(
        astuple(row) for row in sorted([*others, *rows], key=lambda row: (row.kind, row.artifact))
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as partial:
        partial.write_text(text.getvalue(), encoding="utf-8")


def check(run: RunFolder, reference: Iterable[Row], version: str) -> Checked:
    """Compare a run with a reference.

    Args:
        run: the run.
        reference: rows of any kinds.
        version: this product's.
    """
    kind = run_kind(run)
    reference = list(reference)
    kept = sorted({row.kind for row in reference})
    expected = {row.artifact: row for row in reference if row.kind == kind}
    if not expected:
        return Checked(kind, kept)
    made = {row.artifact: row for row in rows_of(run, version)}
    artifacts = [row.artifact for row in (expected | made).values() if row.software]
    same = {
        name
        for name in artifacts
        if name in made and name in expected and made[name].sha256 == expected[name].sha256
    }
    older = next(iter(expected.values())).version
    first = _first(run, made, expected, artifacts, same)
    causes = tuple(_causes(run, first, made, expected, version)) if first else ()
    return Checked(kind, kept, len(same), len(artifacts), older, first or "", causes)


def _first(
    run: RunFolder,
    made: Mapping[str, Row],
    expected: Mapping[str, Row],
    artifacts: Sequence[str],
    same: set[str],
) -> str | None:
    """Return the first artifact that differs although all that it was made from is the same."""
    differing = [name for name in artifacts if name not in same]
    for name in differing:
        if name in run.artifacts and not any(
            parent in differing for parent in parents(run, run.artifacts[name])
        ):
            return name
    return differing[0] if differing else None


def _causes(
    run: RunFolder,
    path: str,
    made: Mapping[str, Row],
    expected: Mapping[str, Row],
    version: str,
) -> Iterable[Difference]:
    """Yield what may be the cause of a difference, from the surest on."""
    if path not in made:
        yield Difference("missing", "the reference has this artifact, the run has not")
        return
    if path not in expected:
        yield Difference("extra", "the run has this artifact, the reference has not")
        return
    for entry in run.artifacts[path].manifest["inputs"]:
        name = entry["path"]
        if name in expected and expected[name].sha256 != entry["sha256"]:
            yield Difference("input", f"{name} is another file than the reference's")
    left, right = expected[path], made[path]
    if left.asked != right.asked:
        yield Difference("recipe", "another recipe, seed or option was asked for")
    if left.software != right.software:
        yield Difference("software", f"image {right.software}, the reference's {left.software}")
    if left.version != version:
        yield Difference("code", f"version {version}, the reference is of {left.version}")
    if left.asked == right.asked and left.software == right.software:
        cpu = run.artifacts[path].run_metadata.get("cpu", "unknown")
        yield Difference(
            "bytes",
            f"other bytes on {cpu}: changed code, another model of processor of this kind, or a "
            "fault of disk or memory (bin/zagreus verify tells the last)",
        )


def _joint(run: RunFolder, artifact: Artifact) -> str:
    """Return one sha256 for the files of an artifact; for one without files, of its manifest."""
    files = content(run, artifact)
    if files:
        text = "".join(f"{name} {sha256}\n" for name, sha256 in sorted(files.items()))
    else:
        kept = {
            key: value
            for key, value in artifact.manifest.items()
            if key not in ("inputs", "outputs", "software", "versions")
        }
        text = _canonical(kept)
    return hashlib.sha256(text.encode()).hexdigest()


def _request_hash(artifact: Artifact) -> str:
    requested = {key: artifact.manifest[key] for key in ASKED_FIRST if key in artifact.manifest}
    return hashlib.sha256(_canonical(requested).encode()).hexdigest()[:16]


def _canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)
