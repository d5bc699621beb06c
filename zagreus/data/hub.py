"""Files of dataset repositories on the Hugging Face hub: listed once, then downloaded and checked against the listing.

The token for gated repositories comes from the environment (`HF_TOKEN`), where huggingface_hub finds it by itself.
"""

from __future__ import annotations

import csv
import fnmatch
import hashlib
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, fields
from pathlib import Path

# The images set the offline variables; these are the functions of the few rules that may go to the network.
os.environ["HF_HUB_OFFLINE"] = "0"
import httpx  # noqa: E402
import huggingface_hub  # noqa: E402
from huggingface_hub import errors  # noqa: E402

from zagreus.atomic import atomic_file  # noqa: E402
from zagreus.errors import InputError  # noqa: E402
from zagreus.manifest import sha256_file  # noqa: E402


@dataclass(frozen=True)
class File:
    """One row of a listing: a file of a source, and what it must be.

    `sha256` is the git blob id (`git_blob_id`) of a small file, of which the hub keeps no sha256.
    """

    source: str
    path: str
    bytes: int
    sha256: str


class NoAnswer(InputError):
    """The hub could not be reached, or broke off: another try may help."""


@contextmanager
def one_line(repo: str, revision: str, file: str = "") -> Iterator[None]:
    """Turn what the hub answers into an `InputError` of one line."""
    token = "is not let in by it" if os.environ.get("HF_TOKEN") else "is not set"
    where = f"{repo} at revision {revision}" + (f", {file}" if file else "")
    try:
        yield
    except errors.GatedRepoError:
        raise InputError(f"{where}: the repository is gated and HF_TOKEN {token}: set it to a token whose owner has access") from None
    except errors.RepositoryNotFoundError:
        raise InputError(f"{where}: no such repository, or a private one and HF_TOKEN {token}") from None
    except errors.RevisionNotFoundError:
        raise InputError(f"{where}: no such revision") from None
    except errors.RemoteEntryNotFoundError:
        raise InputError(f"{where}: no such file") from None
    except (
        errors.HfHubHTTPError,
        errors.LocalEntryNotFoundError,
        httpx.HTTPError,
        RuntimeError,
    ) as error:  # RuntimeError: its client after a broken connection
        raise NoAnswer(f"{where}: the hub did not answer ({(str(error) or type(error).__name__).splitlines()[0]})") from None


def list_files(source: str, repo: str, revision: str, pattern: str) -> list[File]:
    """Return the files of a dataset repository that match a glob, in order of their paths.

    Raises:
        InputError: no access (said before anything is downloaded), no such repository or revision, no file matches.
    """
    # Only the folder before the first wildcard is listed: some repositories have tens of thousands of files.
    folder = "/".join(part for part in pattern.split("/")[:-1]).split("*")[0].rstrip("/") or None
    api = huggingface_hub.HfApi()
    with one_line(repo, revision):
        api.auth_check(repo, repo_type="dataset")
        tree = list(api.list_repo_tree(repo, folder, recursive=True, revision=revision, repo_type="dataset"))
    found = []
    for item in tree:
        if isinstance(item, huggingface_hub.hf_api.RepoFile) and fnmatch.fnmatchcase(item.path, pattern):
            digest = item.blob_id if item.lfs is None else item.lfs.sha256
            found.append(File(source, item.path, item.size, digest))
    if not found:
        raise InputError(f"{repo} at revision {revision}: no file matches '{pattern}'")
    return sorted(found, key=lambda file: file.path)


def commit_of(repo: str, revision: str, kind: str) -> str:
    """Return the commit that a revision names now; `kind` is `dataset` or `model`."""
    with one_line(repo, revision):
        commit = huggingface_hub.HfApi().repo_info(repo, revision=revision, repo_type=kind).sha
    assert commit is not None  # None is for listings of repositories
    return commit


def hash_of(repo: str, revision: str, name: str) -> str | None:
    """Return the sha256 of a file of a dataset repository without downloading it; None for a small file, of which the hub keeps none."""
    with one_line(repo, revision, name):
        etag = huggingface_hub.get_hf_file_metadata(huggingface_hub.hf_hub_url(repo, name, repo_type="dataset", revision=revision)).etag
    return etag if etag and len(etag) == 64 else None


def write_listing(path: Path, files: Sequence[File]) -> None:
    """Write a listing: CSV with the columns of `File`."""
    with atomic_file(path) as partial, open(partial, "w", newline="", encoding="utf-8") as opened:
        table = csv.writer(opened, lineterminator="\n")
        table.writerow([column.name for column in fields(File)])
        table.writerows(astuple(file) for file in files)


def read_listing(path: Path, source: str) -> list[File]:
    """Return a source's rows of a listing, in its order; raise `InputError` when there are none."""
    with open(path, newline="", encoding="utf-8") as opened:
        rows = [row for row in csv.DictReader(opened) if row["source"] == source]
    if not rows:
        raise InputError(f"{path}: no file of source '{source}'")
    return [File(row["source"], row["path"], int(row["bytes"]), row["sha256"]) for row in rows]


def download(repo: str, revision: str, file: File, folder: Path, tries: int = 3, pause: float = 2.0) -> Path:
    """Download a file into a folder, check it against the listing, and return its path. What is there already is kept.

    Where the hub does not answer there are `tries` of them, `pause` seconds apart, then twice that, and so on.
    """
    for attempt in range(1, tries + 1):
        try:
            with one_line(repo, revision, file.path):
                path = Path(huggingface_hub.hf_hub_download(repo, file.path, repo_type="dataset", revision=revision, local_dir=folder))
            break
        except NoAnswer as problem:
            if attempt == tries:
                raise
            print(f"try {attempt} of {tries}: {problem}", file=sys.stderr)
            time.sleep(pause * 2 ** (attempt - 1))
    kind, digest = ("sha256", sha256_file(path)) if is_sha256(file.sha256) else ("git blob id", git_blob_id(path))
    if digest != file.sha256:
        path.unlink()
        raise InputError(f"{repo}: {file.path} has {kind} {digest}, the listing says {file.sha256}")
    return path


def is_sha256(digest: str) -> bool:
    """Return whether a listing's hash is a sha256; else it is a git blob id, of 40 digits."""
    return len(digest) != 40


def git_blob_id(path: Path) -> str:
    """Return the name by which git knows a file's content: sha1 of `blob SIZE`, a zero byte, the content."""
    whole = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with open(path, "rb") as opened:
        while block := opened.read(2**20):
            whole.update(block)
    return whole.hexdigest()


def download_model_file(repo: str, revision: str, name: str, folder: Path) -> None:
    """Download one file of a model repository into a folder."""
    with one_line(repo, revision, name):
        huggingface_hub.hf_hub_download(repo, name, revision=revision, local_dir=folder)
