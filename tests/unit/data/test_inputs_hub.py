"""What can go wrong between a script and the hub is one line, whichever script asks.

A short fault is tried again.
"""

from __future__ import annotations

from pathlib import Path

import huggingface_hub.hf_api  # noqa: F401 - the libraries are there before the scripts fork
import numpy  # noqa: F401
import pytest
from hub_faults import fault
from hub_users import USERS, User, prepare

from tests.unit.forked import Done, run_script
from zagreus.data.hub import check_repository
from zagreus.errors import InputError

NO_HUB = "and is no hub: look at HF_ENDPOINT"
NOT_AS_HUB = "answered as no hub does ("
FAULTS = {
    "page": NO_HUB,
    "plain page": NOT_AS_HUB,
    "other JSON": NOT_AS_HUB,
    "a number": NOT_AS_HUB,
    "empty": NOT_AS_HUB,
    "401": "the hub wants a token (401), and HF_TOKEN is not set",
    "403": "the hub refuses (403)",
    "407": "the proxy wants a user name and a password (407)",
    "418": "the hub refuses (418)",
    "429": "the hub asks to wait (429, too many requests)",
    "500": "the hub failed (500)",
    "503": "the hub failed (503)",
    "circle": "leads in a circle",
    "nowhere": "the hub did not answer",
    "noise": "the hub did not answer",
    "closed": "the hub did not answer",
    "refused": "Connection refused",
    "no name": "the hub did not answer (http://hub.invalid: ",
    "no scheme": "the hub did not answer (hub.invalid: ",
}
AGAIN = ("429", "500", "503", "nowhere", "noise", "closed", "refused", "no name", "no scheme")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare(tmp_path_factory.mktemp("hub"))


def use(user: User, endpoint: str, work: Path, repo: str = "owner/open") -> Done:
    (work / "tmp").mkdir(exist_ok=True)
    variables = {
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(work / "home"),
        "TMPDIR": str(work / "tmp"),
        "HF_HUB_DISABLE_XET": "1",
    }
    variables |= {
        "ZAGREUS_HUB_PAUSE": "0",
        "HF_HUB_DOWNLOAD_TIMEOUT": "1",
        "HF_HUB_ETAG_TIMEOUT": "1",
    }
    proxies = dict.fromkeys(
        (
            "http_proxy",
            "https_proxy",
            "all_proxy",
            "HTTP_PROXY",
            "HTTPS_PROXY",
            "ALL_PROXY",
            "HF_TOKEN",
        )
    )
    return run_script(user.script, user.arguments(repo, work), {**proxies, **variables})


def failed(done: Done) -> str:
    """Return the one line of bad input; a line for each try before it is allowed."""
    assert done.status == 2, done.stderr
    others = [
        line
        for line in done.stderr.replace("\r", "\n").splitlines()[:-1]
        if line and "download web" not in line
    ]
    assert all(line.startswith("try ") for line in others), done.stderr
    assert done.error.startswith("error: ")
    return done.error


def made(work: Path, user: User) -> list[str]:
    """Return what stands at final names, but for what the test itself wrote."""
    own = {"listing.csv", "config.yaml"}
    paths = [
        path
        for path in work.rglob("*")
        if path.is_file() and not path.is_relative_to(work / "sample")
    ]
    hidden = [
        path
        for path in paths
        if any(
            part.startswith(".") or part in ("home", "tmp") for part in path.relative_to(work).parts
        )
    ]
    return sorted(path.name for path in set(paths) - set(hidden) if path.name not in own)


# Every fault under a script that lists and one that downloads; the others, which ask in the same
# way, meet some: `-m slow` is the rest.
WHOLE, SOME = ("list_files", "fetch_evaluation"), ("page", "401", "500", "circle")
CASES = [
    pytest.param(
        user,
        name,
        id=f"{user.name}-{name}",
        marks=[] if user.name in WHOLE or name in SOME else pytest.mark.slow,
    )
    for user in USERS
    for name in FAULTS
]


@pytest.mark.parametrize(("user", "name"), CASES)
def test_one_line(user: User, name: str, folder: Path, tmp_path: Path) -> None:
    with fault(name, folder) as endpoint:
        done = use(user, endpoint, tmp_path)
    line = failed(done)
    # The library itself reads the addresses of files, and finds this one wrong.
    expected = (NOT_AS_HUB, FAULTS[name]) if name == "nowhere" else (FAULTS[name],)
    assert any(part in line for part in expected)
    assert "owner/open at revision main" in line
    assert ("try 2 of 3" in done.stderr) == (name in AGAIN and NOT_AS_HUB not in line)
    assert made(tmp_path, user) == []


@pytest.mark.parametrize("name", ["hang", "broken off"])
@pytest.mark.parametrize("user", [USERS[1], USERS[4]], ids=lambda user: user.name)
def test_waiting_ends(user: User, name: str, folder: Path, tmp_path: Path) -> None:
    with fault(name, folder) as endpoint:
        done = use(user, endpoint, tmp_path)
    assert ("nothing came for 1 s" if name == "hang" else "the hub did not answer") in failed(done)
    assert made(tmp_path, user) == []


@pytest.mark.parametrize("name", ["503", "broken off"])
@pytest.mark.parametrize("user", USERS, ids=lambda user: user.name)
def test_a_short_fault_is_tried_again(user: User, name: str, folder: Path, tmp_path: Path) -> None:
    with fault(name, folder, times=2) as endpoint:
        done = use(user, endpoint, tmp_path)
    assert done.status == 0, done.stderr


NAMES = [
    "https://huggingface.co/owner/open",
    "owner/open name",
    "a/b/c/d",
    "owner/..",
    "../open",
    "",
    "owner/",
    "/open",
    "owner/ops--x",
]
NAMES += ["owner/open\nother", "o" * 97, "owner/açai", "owner/open.git", "-x/y"]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_no_name_of_a_repository(name: str) -> None:
    with pytest.raises(
        InputError, match="not the name of a repository, expected owner/name"
    ) as raised:
        check_repository(name)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("user", USERS, ids=lambda user: user.name)
def test_no_script_asks_for_what_is_no_name(user: User, folder: Path, tmp_path: Path) -> None:
    for name in NAMES[:5]:
        line = failed(use(user, "http://127.0.0.1:9", tmp_path, name))
        assert f"error: '{name}': not the name of a repository" in line


@pytest.mark.parametrize("name", ["owner/open", "gpt2", "Org-1/model_2.5", "a/B"])
def test_names_of_repositories(name: str) -> None:
    check_repository(name)


@pytest.mark.parametrize(
    "name", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_DIR"]
)
def test_certificates_that_are_not_there(name: str, tmp_path: Path) -> None:
    user = USERS[0]
    done = run_script(
        user.script,
        user.arguments("owner/open", tmp_path),
        {name: "/nowhere/ca.pem", "HF_TOKEN": None},
    )
    assert f"error: {name}: no such file '/nowhere/ca.pem'" in failed(done)
