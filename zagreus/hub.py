"""The Hugging Face hub: one way to ask it, one line for whatever it answers, another try where that may help."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

# The images set the offline variables; these are the functions of the few rules that may go to the network.
os.environ["HF_HUB_OFFLINE"] = "0"
import httpx  # noqa: E402
import huggingface_hub  # noqa: E402
from huggingface_hub import constants, errors  # noqa: E402
from huggingface_hub.utils import validate_repo_id  # noqa: E402

from zagreus.errors import InputError  # noqa: E402
from zagreus.secrets import hub_token, mask  # noqa: E402

TRIES = 3
PAUSE = 2.0  # seconds before the second try; twice that before the third
T = TypeVar("T")


class NoAnswer(InputError):
    """The hub could not be reached, is busy or broke off: another try may help."""


def check_repository(repo: str) -> None:
    """Raise `InputError` unless `repo` is the name of a repository, `owner/name` (or an old `name`)."""
    try:
        if not isinstance(repo, str) or ".." in repo:
            raise errors.HFValidationError
        validate_repo_id(repo)
    except errors.HFValidationError:
        raise InputError(f"{repo!r}: not the name of a repository on the hub, expected owner/name") from None


@contextmanager
def one_line(repo: str, revision: str, file: str = "") -> Iterator[None]:
    """Turn what the hub answers, and what happens on the way there, into an `InputError` of one line.

    Raises:
        NoAnswer: another try may help.
        InputError: another try does not help: no access, no such repository, revision or file, no hub at that address.
    """
    check_repository(repo)
    token = "is not let in by it" if hub_token() else "is not set"
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
    except errors.HfHubHTTPError as error:
        raise _by_status(where, error, token) from None
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled, httpx.HTTPError, httpx.InvalidURL, RuntimeError) as error:
        # RuntimeError: its client after a broken connection; the cause stands behind it.
        raise NoAnswer(f"{where}: the hub did not answer at {mask(constants.ENDPOINT)} ({_unreachable(error)})") from None
    except ValueError as error:
        raise InputError(
            f"{where}: {mask(constants.ENDPOINT)} answered with something else than the hub does ({_reason(error)}), "
            "expected JSON: is there a proxy's or a mirror's page in between?"
        ) from None
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{where}: {mask(constants.ENDPOINT)} answered JSON of another form than the hub's (no {error})") from None


def patient(ask: Callable[[], T], tries: int = TRIES, pause: float = PAUSE) -> T:
    """Return what `ask` returns; where the hub does not answer, ask again.

    Args:
        ask: asks the hub within `one_line`.
        tries: number of times in all.
        pause: seconds before the second time, twice that before the third, and so on.
    """
    for attempt in range(1, tries):
        try:
            return ask()
        except NoAnswer as problem:
            print(f"try {attempt} of {tries}: {mask(str(problem))}", file=sys.stderr)
            time.sleep(pause * 2 ** (attempt - 1))
    return ask()


def download(repo: str, revision: str, name: str, folder: Path, kind: str, tries: int = TRIES, pause: float = PAUSE) -> Path:
    """Download one file of a repository into a folder and return its path; what is there whole already is kept.

    Args:
        kind: `dataset` or `model`.
    """

    def ask() -> Path:
        with one_line(repo, revision, name):
            return Path(huggingface_hub.hf_hub_download(repo, name, repo_type=kind, revision=revision, local_dir=folder))

    return patient(ask, tries, pause)


def _by_status(where: str, error: errors.HfHubHTTPError, token: str) -> InputError:
    status = error.response.status_code
    if status in (401, 403):
        return InputError(f"{where}: the hub refuses access ({status}): HF_TOKEN {token}")
    if status == 429:
        return NoAnswer(f"{where}: the hub has had too many requests (429); try again later")
    if status >= 500:
        return NoAnswer(f"{where}: the hub is out of order ({status}); try again later")
    return InputError(f"{where}: the hub answered {status} ({_reason(error)})")


def _unreachable(error: BaseException) -> str:
    """Return why the hub cannot be reached.

    Its client goes on with a closed connection after the first failure, and says only that: then the address is asked once more.
    """
    if not isinstance(error, RuntimeError):
        return _reason(error)
    try:
        httpx.head(constants.ENDPOINT, timeout=10, follow_redirects=False)
    except (httpx.HTTPError, httpx.InvalidURL) as reason:
        return _reason(reason)
    return "the connection broke off"


def _reason(error: BaseException) -> str:
    """Return the first words of what an error came from: the network's own, where the chain of errors has it."""
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in chain:
        chain.append(cause)
        cause = cause.__cause__ or cause.__context__
    network = [each for each in chain if isinstance(each, (httpx.TransportError, OSError)) and str(each)]
    said = str((network or chain)[0]) or type(error).__name__
    return mask(said.strip().splitlines()[0]) if said.strip() else type(error).__name__
