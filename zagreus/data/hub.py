"""Files of repositories on the Hugging Face hub.

Listed once, then downloaded and checked against the listing.

Every question to the hub goes through `one_line`, and every answer through `Client`: what can go
wrong on the way is told there, in one line. The token for gated repositories:
zagreus/credentials.py.
"""

from __future__ import annotations

import csv
import fnmatch
import hashlib
import logging
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, fields
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from zagreus.credentials import mask, split_login, use_token
from zagreus.errors import InputError
from zagreus.failures import one_line as folded
from zagreus.network import use_certificates

# The images set the offline variables; these are the functions of the few rules that may go to the
# network.
os.environ["HF_HUB_OFFLINE"] = "0"
# A user name and a password in the address are kept apart: the library prints addresses.
_ENDPOINT, _LOGIN = split_login(
    os.environ.get("HF_ENDPOINT", "").strip().rstrip("/") or "https://huggingface.co"
)
os.environ["HF_ENDPOINT"] = _ENDPOINT
import httpx  # noqa: E402
import huggingface_hub  # noqa: E402
from huggingface_hub import constants, errors  # noqa: E402

from zagreus.atomic import atomic_file  # noqa: E402
from zagreus.manifest import sha256_file  # noqa: E402

# A library that was imported earlier has read them before they were put right.
constants.HF_HUB_OFFLINE = False
constants.ENDPOINT = _ENDPOINT
constants.HUGGINGFACE_CO_URL_TEMPLATE = _ENDPOINT + "/{repo_id}/resolve/{revision}/{filename}"

# Seconds without a byte, where the library itself would wait for ever.
TIMEOUT = float(os.environ.get("HF_HUB_DOWNLOAD_TIMEOUT") or 60)
LIMITS = ("connect", "read", "write", "pool")
TRIES = 3  # of a question that the hub did not answer
PAUSE = float(
    os.environ.get("ZAGREUS_HUB_PAUSE", "2")
)  # seconds before the second try; then twice that
AGAIN = (429, 500, 502, 503, 504)  # statuses after which another try may help
# The hub's own rule: letters, digits, `-`, `_` and `.`; at most 96 characters; no `--` and no `..`.
NAME = re.compile(r"(?!.*(?:--|\.\.))(?:[A-Za-z0-9][\w.-]*/)?[A-Za-z0-9_][\w.-]*", re.ASCII)

T = TypeVar("T")


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
    """The hub could not be reached, asked to wait, or broke off: another try may help."""


class Client(httpx.Client):
    """The connection to the hub.

    Faults of the network end here as `NoAnswer`, before the library tries
    by itself: its tries would hide the cause ("the client has been closed")."""

    redirects = 0  # in a row that the library follows by itself, without a limit
    # Whether a single request is sent again: a push is many requests, of which a commit alone must
    # not be sent twice. Everywhere else `ask` asks again.
    patient = False

    def send(self, request: httpx.Request, **options: Any) -> httpx.Response:
        """Send a request, once or, where this client is patient, `TRIES` times.

        Raise `NoAnswer` or `InputError` where no hub answers.
        """
        if self.patient and request.method == "PUT":
            # A part of a large file: the library sends it again from its beginning.
            request.extensions["timeout"] = dict.fromkeys(LIMITS, TIMEOUT)
            return super().send(request, **options)
        again = isinstance(request.stream, httpx.ByteStream) and "/commit/" not in request.url.path
        for attempt in range(1, TRIES if self.patient and again else 1):
            try:
                return self._send_once(request, **options)
            except NoAnswer as problem:
                print(mask(f"try {attempt} of {TRIES}: {problem}"), file=sys.stderr)
                time.sleep(PAUSE * 2 ** (attempt - 1))
        return self._send_once(request, **options)

    def _send_once(self, request: httpx.Request, **options: Any) -> httpx.Response:
        """Send a request, with a limit to the waiting.

        Raise `NoAnswer` or `InputError` where no hub answers.
        """
        limits = request.extensions.get("timeout", {})
        request.extensions["timeout"] = {what: limits.get(what) or TIMEOUT for what in LIMITS}
        if _LOGIN and str(request.url).startswith(f"{_ENDPOINT}/"):
            request.headers["authorization"] = httpx.BasicAuth(*_LOGIN)._build_auth_header(*_LOGIN)
        try:
            response = super().send(request, **options)
        except httpx.TooManyRedirects:
            raise InputError("the hub's address leads in a circle (too many redirects)") from None
        except (httpx.HTTPError, httpx.InvalidURL, RuntimeError, ValueError, OSError) as error:
            raise _no_answer(error) from None
        self.redirects = self.redirects + 1 if response.is_redirect else 0
        if self.redirects > self.max_redirects:
            raise InputError("the hub's address leads in a circle (too many redirects)")
        if response.status_code in AGAIN:
            response.close()
            raise NoAnswer(_status(response.status_code))
        page = response.headers.get("content-type", "").startswith("text/html")
        if response.is_success and page and "x-repo-commit" not in response.headers:
            response.close()
            raise InputError(
                f"{_hub()} answered with a web page and is no hub: look at HF_ENDPOINT, and at "
                "the proxy's login"
            )
        return response


def check_repository(name: str, owner: bool = False) -> None:
    """Raise `InputError` where a name is none of a repository.

    `owner/name` or, unless `owner`, `name` alone.
    """
    if (
        len(name) > 96
        or not NAME.fullmatch(name)
        or name.endswith(".git")
        or (owner and "/" not in name)
    ):
        raise InputError(
            f"'{folded(Exception(name))[:200]}': not the name of a repository, expected owner/name"
        )


@contextmanager
def one_line(repo: str, revision: str, file: str = "") -> Iterator[None]:
    """Turn what the hub answers into an `InputError` of one line.

    The block holds calls of huggingface_hub alone. Errors of the disk pass through.
    """
    check_repository(repo)
    token = "is not let in by it" if _connect() else "is not set"
    where = repo + (f" at revision {revision}" if revision else "") + (f", {file}" if file else "")
    try:
        yield
    except NoAnswer as error:
        raise NoAnswer(f"{where}: {error}") from None
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    except errors.GatedRepoError:
        raise InputError(
            f"{where}: the repository is gated and HF_TOKEN {token}: set it to a token whose "
            "owner has access"
        ) from None
    except errors.RepositoryNotFoundError:
        raise InputError(
            f"{where}: no such repository, or a private one and HF_TOKEN {token}"
        ) from None
    except errors.RevisionNotFoundError:
        raise InputError(f"{where}: no such revision") from None
    except errors.RemoteEntryNotFoundError:
        raise InputError(f"{where}: no such file") from None
    except errors.HfHubHTTPError as error:
        raise InputError(f"{where}: {_status(error.response.status_code, token)}") from None
    except (errors.FileMetadataError, errors.LocalEntryNotFoundError) as error:
        # A download wraps the hub's answer in an error of its own.
        if isinstance(answer := error.__cause__ or error.__context__, errors.HfHubHTTPError):
            raise InputError(f"{where}: {_status(answer.response.status_code, token)}") from None
        raise InputError(
            f"{where}: {_hub()} answered as no hub does ({_short(error)}); look at HF_ENDPOINT"
        ) from None
    except (httpx.HTTPError, httpx.StreamError, RuntimeError) as error:
        raise NoAnswer(f"{where}: {_no_answer(error)}") from None
    except OSError as error:
        if error.errno is None and "onsisten" in str(error):  # fewer bytes than were announced
            raise NoAnswer(
                f"{where}: the hub did not answer to the end ({_short(error)})"
            ) from None
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{where}: {_hub()} answered as no hub does ({type(error).__name__}: "
            f"{_short(error)}); look at HF_ENDPOINT"
        ) from None


def ask(call: Callable[[], T], repo: str, revision: str, file: str = "") -> T:
    """Return what a call of huggingface_hub returns.

    Where the hub does not answer it is made `TRIES` times, with pauses that double.

    Raises:
        InputError: see `one_line`.
    """
    for attempt in range(1, TRIES):
        try:
            with one_line(repo, revision, file):
                return call()
        except NoAnswer as problem:
            print(mask(f"try {attempt} of {TRIES}: {problem}"), file=sys.stderr)
            time.sleep(PAUSE * 2 ** (attempt - 1))
    with one_line(repo, revision, file):
        return call()


def _connect() -> str | None:
    """Make the library use `Client`, the one token and the site's certificates.

    Return the token.
    """
    use_certificates()
    token = use_token()
    if not isinstance(huggingface_hub.get_session(), Client):
        huggingface_hub.set_client_factory(lambda: Client(follow_redirects=True, timeout=TIMEOUT))
        for handler in logging.getLogger("huggingface_hub").handlers:
            handler.addFilter(_masked)
    return token


def _masked(record: logging.LogRecord) -> bool:
    """Mask what the library logs; it names addresses."""
    record.msg, record.args = mask(record.getMessage()), ()
    return True


def _hub() -> str:
    return mask(constants.ENDPOINT)


def _short(error: BaseException) -> str:
    return mask(folded(error))[:200]


def _no_answer(error: BaseException) -> NoAnswer:
    text = _short(error) or type(error).__name__
    if isinstance(error, httpx.TimeoutException):
        text = f"{_hub()}: nothing came for {TIMEOUT:.0f} s"
    elif "CERTIFICATE_VERIFY_FAILED" in text:
        text += "; SSL_CERT_FILE names the certificates of a site's own authority"
    elif isinstance(error, httpx.ProxyError):
        text = f"the proxy: {text}"
    else:
        text = f"{_hub()}: {text}"
    return NoAnswer(f"the hub did not answer ({text})")


def _status(status: int, token: str = "") -> str:
    """Return what a status of an answer means."""
    if status == 401:
        return f"the hub wants a token (401), and HF_TOKEN {token}"
    if status == 403:
        return f"the hub refuses (403): the owner of the token has no access; HF_TOKEN {token}"
    if status == 407:
        return "the proxy wants a user name and a password (407)"
    if status == 429:
        return "the hub asks to wait (429, too many requests); try again later, or set HF_TOKEN"
    if status >= 500:
        return f"the hub failed ({status}); try again later"
    return f"the hub refuses ({status})"


def list_files(source: str, repo: str, revision: str, pattern: str) -> list[File]:
    """Return the files of a dataset repository that match a glob, in order of their paths.

    Raises:
        InputError: no access (said before anything is downloaded), no such repository or revision,
            no file matches.
    """
    # Only the folder before the first wildcard is listed: some repositories have tens of thousands
    # of files.
    folder = "/".join(part for part in pattern.split("/")[:-1]).split("*")[0].rstrip("/") or None
    api = huggingface_hub.HfApi()

    def listed() -> list[Any]:
        api.auth_check(repo, repo_type="dataset")
        return list(
            api.list_repo_tree(repo, folder, recursive=True, revision=revision, repo_type="dataset")
        )

    tree = ask(listed, repo, revision)
    files = []
    for item in tree:
        if isinstance(item, huggingface_hub.hf_api.RepoFile) and fnmatch.fnmatchcase(
            item.path, pattern
        ):
            digest = item.blob_id if item.lfs is None else item.lfs.sha256
            files.append(File(source, item.path, item.size, digest))
    if not files:
        raise InputError(f"{repo} at revision {revision}: no file matches '{pattern}'")
    return sorted(files, key=lambda file: file.path)


def commit_of(repo: str, revision: str, kind: str) -> str:
    """Return the commit that a revision names now; `kind` is `dataset` or `model`."""
    commit = ask(
        lambda: huggingface_hub.HfApi().repo_info(repo, revision=revision, repo_type=kind).sha,
        repo,
        revision,
    )
    assert commit is not None  # None is for listings of repositories
    return commit


def hash_of(repo: str, revision: str, name: str) -> str | None:
    """Return the sha256 of a file of a dataset repository without downloading it.

    None for a small file, of which the hub keeps none.
    """
    etag = file_metadata(repo, revision, name).etag
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


def file_metadata(repo: str, revision: str, name: str) -> huggingface_hub.HfFileMetadata:
    """Return what the hub says of a file of a dataset repository: commit, etag, size."""

    def request() -> huggingface_hub.HfFileMetadata:
        return huggingface_hub.get_hf_file_metadata(
            huggingface_hub.hf_hub_url(repo, name, repo_type="dataset", revision=revision)
        )

    return ask(request, repo, revision, name)


def download_file(repo: str, revision: str, name: str, folder: Path, kind: str = "dataset") -> Path:
    """Download one file of a repository into a folder, and return its path.

    `kind` is `dataset` or `model`.
    """
    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        raise InputError(f"{repo}: '{name}' is not the name of a file in a repository")

    def fetched() -> Path:
        return Path(
            huggingface_hub.hf_hub_download(
                repo, name, repo_type=kind, revision=revision, local_dir=folder
            )
        )

    return ask(fetched, repo, revision, name)


def download(repo: str, revision: str, file: File, folder: Path) -> Path:
    """Download a file into a folder, check it against the listing, and return its path.

    What is there already is kept.
    """
    path = download_file(repo, revision, file.path, folder)
    kind, digest = (
        ("sha256", sha256_file(path))
        if is_sha256(file.sha256)
        else ("git blob id", git_blob_id(path))
    )
    if digest != file.sha256:
        path.unlink()
        raise InputError(f"{repo}: {file.path} has {kind} {digest}, the listing says {file.sha256}")
    return path


def is_sha256(digest: str) -> bool:
    """Return whether a listing's hash is a sha256; else it is a git blob id, of 40 digits."""
    return len(digest) != 40


def git_blob_id(path: Path) -> str:
    """Return the name by which git knows a file's content.

    Sha1 of `blob SIZE`, a zero byte, the content.
    """
    whole = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with open(path, "rb") as opened:
        while block := opened.read(2**20):
            whole.update(block)
    return whole.hexdigest()


def download_model_file(repo: str, revision: str, name: str, folder: Path) -> None:
    """Download one file of a model repository into a folder."""
    download_file(repo, revision, name, folder, "model")


def download_model(repo: str, revision: str, folder: Path, patterns: Sequence[str]) -> None:
    """Download the files of a model repository that match one of the patterns into a folder."""

    def fetched() -> str:
        return huggingface_hub.snapshot_download(
            repo, revision=revision, local_dir=folder, allow_patterns=list(patterns)
        )

    ask(fetched, repo, revision)
    shutil.rmtree(folder / ".cache", ignore_errors=True)
