"""A token of any shape stands nowhere in what a program writes, and one that no hub takes is one
line.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.hf_api  # noqa: F401 - the libraries are there before the scripts fork
import numpy  # noqa: F401
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hub_server import serve
from hub_users import USERS, User, prepare

from tests.unit.forked import Done, run_script
from zagreus.credentials import MASKED, mask, read_token, split_login
from zagreus.errors import InputError

TOKEN = "hf_notARealTokenButASecret"
# What may stand in the environment, and what comes of it: None where the script works.
SHAPES = {
    "whole": (TOKEN, None),
    "line end": (f"{TOKEN}\n", None),
    "Windows": (f" {TOKEN}\r\n", None),
    "byte order mark": (f"\ufeff{TOKEN}", None),
    "inner space": (f"{TOKEN} {TOKEN}", "HF_TOKEN: a space"),
    "inner line": (
        f"{TOKEN}\n{TOKEN}",
        "HF_TOKEN: a space or the end of a line at character 27 of 53",
    ),
    "not ASCII": (f"{TOKEN}é", "HF_TOKEN: a character that is not plain ASCII at character 27"),
    "quoted": (f'"{TOKEN}"', "HF_TOKEN: a quote at character 1"),
    "too long": (TOKEN * 200, "HF_TOKEN: 5200 characters"),
    "another": ("hf_anotherTokenThatIsWrong", "HF_TOKEN is not let in by it"),
    "empty": ("", "HF_TOKEN is not set"),
    "blank": (" \n", "HF_TOKEN is not set"),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = prepare(tmp_path_factory.mktemp("hub"))
    served, _ = serve(folder, TOKEN)
    threading.Thread(target=served.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{served.server_port}"
    served.shutdown()
    served.server_close()


def use(user: User, server: str, work: Path, **variables: str | None) -> Done:
    """Run a user of the hub on the gated repository, with its files below `work`."""
    environment = {
        **dict.fromkeys(("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH")),
        **{
            "HF_ENDPOINT": server,
            "HF_HOME": str(work / "home"),
            "TMPDIR": str(work / "tmp"),
            "HF_HUB_DISABLE_XET": "1",
        },
    }
    (work / "tmp").mkdir(exist_ok=True)
    return run_script(user.script, user.arguments("owner/gated", work), environment | variables)


def written(work: Path, done: Done) -> bytes:
    """Return everything that a script wrote: its words, and every file."""
    files = [path.read_bytes() for path in work.rglob("*") if path.is_file()]
    return b"\n".join([done.stdout.encode(), done.stderr.encode(), *files])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("user", USERS, ids=lambda user: user.name)
def test_no_token_is_written(user: User, shape: str, server: str, tmp_path: Path) -> None:
    token, expected = SHAPES[shape]
    done = use(user, server, tmp_path, HF_TOKEN=token)
    everything = written(tmp_path, done)
    assert b"RealToken" not in everything and b"anotherToken" not in everything
    if expected is None:
        assert done.status == 0, done.stderr
    else:
        assert done.status == 2 and expected in done.error, done.stderr
        assert done.stderr.count("error: ") == 1


@pytest.mark.parametrize("spelling", ["HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH", "login"])
def test_every_spelling_is_read(spelling: str, server: str, tmp_path: Path) -> None:
    file = tmp_path / ("home/token" if spelling == "login" else "secret")
    file.parent.mkdir(exist_ok=True)
    file.write_text(f"{TOKEN}\r\n")
    variables = {"HUGGING_FACE_HUB_TOKEN": f"{TOKEN}\n"} if spelling.startswith("HUGGING") else {}
    if spelling == "HF_TOKEN_PATH":
        variables[spelling] = str(file)
    done = use(USERS[0], server, tmp_path, **variables)
    assert done.status == 0, done.stderr
    file.unlink()
    assert TOKEN.encode() not in written(tmp_path, done)


def test_a_token_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="HF_TOKEN_PATH: .* cannot be read"):
        read_token({"HF_TOKEN_PATH": str(tmp_path)})
    (tmp_path / "binary").write_bytes(bytes(range(200)))
    with pytest.raises(InputError, match="the token file .*/binary: "):
        read_token({"HF_TOKEN_PATH": str(tmp_path / "binary")})
    assert read_token({"HF_TOKEN_PATH": str(tmp_path / "none")}) is None


@pytest.mark.parametrize("repo", ["owner/gated", "owner/unknown"])
@pytest.mark.parametrize("user", USERS, ids=lambda user: user.name)
def test_no_password_of_an_address_is_written(
    user: User, repo: str, server: str, tmp_path: Path
) -> None:
    address = server.replace("//", "//somebody:pass%2Fword@")
    environment = {
        "HF_TOKEN": None,
        "HF_ENDPOINT": address,
        "HF_HOME": str(tmp_path / "home"),
        "TMPDIR": str(tmp_path),
    }
    for variables in ({}, {"HF_ENDPOINT": address.replace(server[-5:], "9")}):
        if variables and repo == "owner/unknown":
            continue
        done = run_script(
            user.script,
            user.arguments(repo, tmp_path),
            {**environment, **variables, "ZAGREUS_HUB_PAUSE": "0"},
        )
        everything = written(tmp_path, done)
        assert (
            b"pass%2Fword" not in everything
            and b"pass/word" not in everything
            and b"somebody" not in everything
        )
        assert done.status == 2 and done.error.startswith("error: "), done.stderr


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("Bearer hf_abcdef b'Bearer hf_abcdef\\n'", f"Bearer {MASKED} b'Bearer {MASKED}'"),
        (
            "at https://me:secret@mirror.example/x@v1: no",
            f"at https://{MASKED}@mirror.example/x@v1: no",
        ),
        ("at https://me:a@b@mirror.example: no", f"at https://{MASKED}@mirror.example: no"),
        (
            "https://cdn.example/f?X-Amz-Signature=abc123&x=1",
            f"https://cdn.example/f?X-Amz-Signature={MASKED}&x=1",
        ),
        ("owner/name@v1: no such file", "owner/name@v1: no such file"),
        ("hf_ABCDEFGHIJKLMNOPQRSTUVWX", MASKED),
        ("hf_hub_download", "hf_hub_download"),
        ("the value topsecret9 of a variable", f"the value {MASKED} of a variable"),
    ],
)
def test_what_is_masked(text: str, masked: str) -> None:
    assert (
        mask(text, {"HF_TOKEN": "topsecret9", "https_proxy": "http://u:otherSecret@proxy"})
        == masked
    )
    assert mask("otherSecret", {"https_proxy": "http://u:otherSecret@proxy"}) == MASKED


@pytest.mark.parametrize(
    ("address", "clean", "login"),
    [
        ("https://mirror.example/api", "https://mirror.example/api", None),
        (
            "https://me:se%40cret@mirror.example:8443/api",
            "https://mirror.example:8443/api",
            ("me", "se@cret"),
        ),
        ("http://me:a@b@mirror.example", "http://mirror.example", ("me", "a@b")),
        ("http://me@mirror.example", "http://mirror.example", ("me", "")),
    ],
)
def test_a_login_is_kept_apart_from_its_address(
    address: str, clean: str, login: tuple[str, str] | None
) -> None:
    assert split_login(address) == (clean, login)


def test_a_script_that_needs_no_hub_does_not_care(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": ["a"], "text": ["uno due"]}), tmp_path / "0.parquet")
    source = {
        "kind": "local",
        "folder": str(tmp_path),
        "language": "ita",
        "text_column": "text",
        "id_column": "id",
        "tasks": 1,
        "heldout": 0,
    }
    arguments = [
        "--name",
        "own",
        "--source",
        json.dumps(source),
        "--task",
        "0",
        tmp_path / "out" / "00000.json",
    ]
    assert run_script("scripts/fetch.py", arguments, {"HF_TOKEN": "not a token"}).status == 0


def test_the_environment_of_this_test_stays(server: str) -> None:
    assert "HF_TOKEN" not in os.environ or TOKEN not in os.environ["HF_TOKEN"]
