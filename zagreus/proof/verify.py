"""Every file of a run against its manifest, and every manifest against what the manifest names."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zagreus.errors import InputError
from zagreus.manifest import sha256_file
from zagreus.proof.run_folder import NOT_ARTIFACTS, RunFolder

# Files that jobs keep beside artifacts and no manifest names: how an artifact came about, recipes
# (a manifest holds the recipe), logs with times, working folders, and rolling saves of a training.
WORKING_FILES = [
    r".*\.run\.json",
    r"sources/[^/]+/files\.csv",
    r"figures/index\.json",
    r"(.*/)?\.snakemake_timestamp",
    r"pretrain/[^/]+/\d+\.(yaml|jsonl)",
    r"posttrain/[^/]+/[^/]+/.*",
    r"pretrain/[^/]+/tensorboard/.*",
    r"pretrain/[^/]+/checkpoints/.*",
    r"pretrain/[^/]+/flight-recorder/.*",
    *(rf"{re.escape(name)}(/.*)?" for name in NOT_ARTIFACTS),
]


CRATE = "ro-crate"


@dataclass(frozen=True, order=True)
class Problem:
    """One thing that does not hold: `kind` is missing, changed, extra or link."""

    kind: str
    path: str
    reason: str


@dataclass(frozen=True)
class Verified:
    """What was checked.

    Attributes:
        artifacts: number of manifests.
        files: number of different files that were hashed.
        bytes: their size.
        elsewhere: inputs outside the run's folder that are not on this machine: not checked.
        problems: everything that does not hold, in order.
    """

    artifacts: int
    files: int
    bytes: int
    elsewhere: list[str]
    problems: list[Problem]


def verify(
    run: RunFolder, workers: int, progress: Callable[[int, int], None] = lambda done, total: None
) -> Verified:
    """Check a run's folder.

    Args:
        run: the run.
        workers: threads that hash at the same time; hashing holds no lock of Python's.
        progress: is called with the bytes that are hashed and the bytes in all.

    Returns:
        What was checked and what does not hold.
    """
    claims = _claims(run)
    problems = [*_links_outside(run), *_extra(run, claims)]
    present, elsewhere = {}, []
    for path, named in claims.items():
        if path.is_file():
            present[path] = named
        elif run.inside(named[0].recorded) is None:
            elsewhere.append(named[0].recorded)
        else:
            makers = ", ".join(sorted({claim.manifest for claim in named}))
            problems.append(Problem("missing", named[0].recorded, f"named by {makers}"))
    hashes = _hash_all(present, workers, progress)
    for path, named in present.items():
        problems += _compare(path, named, hashes[path])
    return Verified(
        len(run.artifacts),
        len(present),
        sum(path.stat().st_size for path in present),
        sorted(elsewhere),
        sorted(set(problems)),
    )


@dataclass(frozen=True)
class _Claim:
    """What a manifest says of a file."""

    manifest: str
    side: str
    recorded: str
    bytes: int
    sha256: str


def _claims(run: RunFolder) -> dict[Path, list[_Claim]]:
    """Return what manifests say of each file, by where the file lies now."""
    claims: dict[Path, list[_Claim]] = {}
    for artifact in run.artifacts.values():
        for side in ("inputs", "outputs"):
            for item in artifact.manifest[side]:
                path = run.locate(item["path"])
                claims.setdefault(path, []).append(_claim(artifact.path, side, item))
    for path, claim in _crate_claims(run):
        claims.setdefault(path, []).append(claim)
    return claims


def _crate_claims(run: RunFolder) -> Iterator[tuple[Path, _Claim]]:
    """Yield what the run's RO-Crate says: of its own copies, and of the tables and the report.

    The crate holds a copy of every manifest that ends in a score, so that an edited manifest is
    noticed although no other manifest names the edited one.
    """
    metadata = run.root / CRATE / "ro-crate-metadata.json"
    if not metadata.is_file():
        return
    try:
        entities = json.loads(metadata.read_text(encoding="utf-8"))["@graph"]
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{metadata}: not the metadata of an RO-Crate") from None
    originals: dict[str, list[str]] = {}
    for artifact in run.artifacts.values():
        name = f"manifests/{artifact.manifest['kind']}/{artifact.manifest['name']}.json"
        originals.setdefault(name, []).append(artifact.path)
    for entity in entities:
        name = str(entity.get("@id", ""))
        if "sha256" not in entity or name.startswith("ni:"):
            continue
        size = int(entity["contentSize"])
        places = [f"{CRATE}/{name}"]
        # Text before and after cleaning has one name: the crate's copy is of one of the two.
        if len(originals.get(name, ())) == 1:
            places += originals[name]
        elif name.split("/")[0] in ("tables", "figures", "report.html"):
            places.append(name)
        for path in places:
            item = {"path": f"{run.recorded}/{path}", "bytes": size, "sha256": entity["sha256"]}
            yield run.root / path, _claim(f"{CRATE}/ro-crate-metadata.json", "outputs", item)


def _claim(manifest: str, side: str, item: dict[str, Any]) -> _Claim:
    if not isinstance(item["bytes"], int) or not re.fullmatch(r"[0-9a-f]{64}", str(item["sha256"])):
        raise InputError(
            f"{manifest}: {side}: {item['path']}: found bytes {item['bytes']!r} and sha256 "
            f"{str(item['sha256'])[:70]!r}, expected a whole number and 64 hexadecimal digits"
        )
    return _Claim(manifest, side, str(item["path"]), item["bytes"], item["sha256"])


def _links_outside(run: RunFolder) -> Iterator[Problem]:
    """Yield the links that lead out of the run: what lies there is not the run's to vouch for."""
    root = run.root.resolve()
    for relative in run.files:
        path = run.root / relative
        if path.is_symlink() and not path.resolve().is_relative_to(root):
            yield Problem("link", relative, f"leads out of the run, to {os.readlink(path)}")


def _extra(run: RunFolder, claims: Iterable[Path]) -> Iterator[Problem]:
    """Yield the files that no manifest names."""
    named = {os.path.normpath(path) for path in claims}
    working = re.compile("|".join(WORKING_FILES))
    for relative in run.files:
        if relative in run.artifacts or working.fullmatch(relative):
            continue
        if os.path.normpath(run.root / relative) not in named:
            yield Problem("extra", relative, "no manifest names this file")


def _hash_all(
    files: Iterable[Path], workers: int, progress: Callable[[int, int], None]
) -> dict[Path, str]:
    """Return the sha256 of every file, largest files first, so that no thread is left alone."""
    sizes = {path: path.stat().st_size for path in files}
    total, done, hashes = sum(sizes.values()), 0, {}
    with ThreadPoolExecutor(workers) as pool:
        jobs = {
            pool.submit(sha256_file, path): path
            for path in sorted(sizes, key=sizes.__getitem__, reverse=True)
        }
        for job in as_completed(jobs):
            path = jobs[job]
            try:
                hashes[path] = job.result()
            except OSError as error:
                raise InputError(f"{path}: cannot be read ({error.strerror})") from None
            done += sizes[path]
            progress(done, total)
    return hashes


def _compare(path: Path, named: list[_Claim], sha256: str) -> Iterator[Problem]:
    """Yield where a file differs from what manifests say of the file."""
    size = path.stat().st_size
    for claim in named:
        if claim.bytes != size:
            difference = f"{size:,} bytes, {claim.manifest} names {claim.bytes:,}"
        elif claim.sha256 != sha256:
            difference = f"sha256 {sha256[:12]}..., {claim.manifest} names {claim.sha256[:12]}..."
        else:
            continue
        what = "was made from another" if claim.side == "inputs" else "consists of another"
        yield Problem("changed", claim.recorded, f"{difference} ({claim.manifest} {what})")
