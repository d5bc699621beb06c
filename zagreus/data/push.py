"""Revisions of a model repository on the hub: each made equal to a list of files, in one commit.

A commit is taken whole or not at all. What is there already is not sent again, so that a push that
broke off goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from zagreus.credentials import mask
from zagreus.data import hub as connection
from zagreus.data.hub import TRIES, Client, NoAnswer, git_blob_id, one_line
from zagreus.errors import InputError
from zagreus.manifest import sha256_file

# isort: split
from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationDelete,
    HfApi,
)
from huggingface_hub.hf_api import RepoFile

TAKEN = "the commit was taken"
KEPT = (".gitattributes",)  # the hub's own file, made with the repository


@dataclass(frozen=True)
class Upload:
    """A file of a revision.

    Attributes:
        name: in the repository.
        content: the file on this machine, or its bytes.
    """

    name: str
    content: Path | bytes

    @property
    def bytes(self) -> int:
        """Size."""
        return len(self.content) if isinstance(self.content, bytes) else self.content.stat().st_size

    def equals(self, there: RepoFile) -> bool:
        """Return whether the hub's file has the same bytes, by the hash that the hub keeps."""
        if there.size != self.bytes:
            return False
        if there.lfs is not None:
            return there.lfs.sha256 == self._sha256
        return there.blob_id == self._blob_id

    @cached_property
    def _sha256(self) -> str:
        if isinstance(self.content, bytes):
            return hashlib.sha256(self.content).hexdigest()
        return sha256_file(self.content)

    @cached_property
    def _blob_id(self) -> str:
        if isinstance(self.content, Path):
            return git_blob_id(self.content)
        head = f"blob {len(self.content)}\0".encode()
        return hashlib.sha1(head + self.content, usedforsecurity=False).hexdigest()


@dataclass(frozen=True)
class Pushed:
    """What a push did: the revision's commit, files that were sent, and files that were removed."""

    commit: str
    sent: list[str]
    removed: list[str]


def push_revision(
    repository: str, revision: str, files: Sequence[Upload], message: str, private: bool = True
) -> Pushed:
    """Make a revision of a repository hold exactly these files.

    Args:
        repository: owner/name; it is made where there is none.
        revision: a branch; it is made where there is none.
        files: all files that the revision shall have.
        message: of the commit.
        private: whether a new repository is private.

    Raises:
        InputError: the hub refuses or does not answer; the line says in what state the revision is.
    """
    Client.patient = True
    hub = HfApi()
    state = "nothing was changed"
    done = Pushed("", [], [])
    try:
        with one_line(repository, ""):
            hub.create_repo(repository, private=private, exist_ok=True)
        if revision != "main":
            with one_line(repository, revision):
                hub.create_branch(repository, branch=revision, exist_ok=True)
        for attempt in range(1, TRIES + 2):
            missing, extra = _difference(files, _files(hub, repository, revision))
            if not missing and not extra:
                return replace(done, commit=_commit(hub, repository, revision))
            if attempt > TRIES or state == TAKEN:
                names = ", ".join([*(upload.name for upload in missing), *extra][:3])
                raise InputError(f"{repository}: the hub kept other files than were sent: {names}")
            state = "the commit was asked for and may have been taken whole"
            done = Pushed("", [upload.name for upload in missing], extra)
            try:
                with one_line(repository, revision):
                    hub.create_commit(
                        repository,
                        [
                            *(
                                CommitOperationAdd(upload.name, upload.content)
                                for upload in missing
                            ),
                            *(CommitOperationDelete(name) for name in extra),
                        ],
                        commit_message=message,
                        revision=revision,
                    )
                state = TAKEN
            except NoAnswer as problem:
                # The next look tells whether it was taken.
                if attempt == TRIES:
                    raise
                print(mask(f"try {attempt} of {TRIES}: {problem}"), file=sys.stderr)
                time.sleep(connection.PAUSE * 2 ** (attempt - 1))
    except InputError as error:
        told = f"revision {revision}: {state}; the same command goes on"
        raise InputError(f"{error}; {told}") from None
    raise AssertionError("the last look returns or raises")


def _difference(
    files: Sequence[Upload], there: Mapping[str, RepoFile]
) -> tuple[list[Upload], list[str]]:
    """Return the files that a revision lacks or has with other bytes, and those to be removed."""
    missing = [
        upload
        for upload in files
        if upload.name not in there or not upload.equals(there[upload.name])
    ]
    return missing, sorted(set(there) - {upload.name for upload in files} - set(KEPT))


def _files(hub: HfApi, repository: str, revision: str) -> dict[str, RepoFile]:
    with one_line(repository, revision):
        listed = list(hub.list_repo_tree(repository, recursive=True, revision=revision))
    return {item.path: item for item in listed if isinstance(item, RepoFile)}


def _commit(hub: HfApi, repository: str, revision: str) -> str:
    with one_line(repository, revision):
        return str(hub.repo_info(repository, revision=revision).sha)
