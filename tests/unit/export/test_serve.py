"""The server and the talk in the terminal, as a user starts them."""

from __future__ import annotations

import gzip
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from zagreus.errors import InputError
from zagreus.export.gguf_file import write_gguf
from zagreus.export.model_folder import ModelFolder
from zagreus.export.server import ask, file_facts, find_file, stream

TOOL = {
    "type": "function",
    "function": {
        "name": "turn_on",
        "description": "Turn a lamp on.",
        "parameters": {"type": "object", "properties": {"room": {"type": "string"}}},
    },
}
QUESTION = {"messages": [{"role": "user", "content": "Ciao"}], "max_tokens": 4, "temperature": 0}


@pytest.fixture(scope="module")
def run_folder(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of a run: a model folder, and two exports of it."""
    root = tmp_path_factory.mktemp("results")
    (root / "models/nesso/dpo").mkdir(parents=True)
    for form in ("f16", "q8_0"):
        folder = root / "exports/nesso/dpo" / form
        folder.mkdir(parents=True)
        write_gguf(
            ModelFolder(model), form, "Nesso", ["it"], True, folder / f"nesso-dpo-{form}.gguf"
        )
    return root


def start(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-P", "scripts/serve.py", *map(str, arguments), "--threads", "1"]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True)


@pytest.fixture(scope="module")
def address(run_folder: Path) -> Iterator[str]:
    server = start(run_folder / "models/nesso/dpo", "--port", 0)
    assert server.stdout is not None
    match = re.search(r"nesso-dpo-q8_0\.gguf, answers: (http://127\.0\.0\.1:\d+)$", line(server))
    assert match is not None
    yield match[1]
    server.send_signal(signal.SIGINT)
    output, errors = server.communicate(timeout=60)
    assert server.returncode == 0 and output.endswith("ended\n"), errors


def line(server: subprocess.Popen[str]) -> str:
    assert server.stdout is not None and server.stderr is not None
    text = server.stdout.readline().strip()
    assert text, server.stderr.read()
    return text


def test_chat_stream_and_tools(address: str) -> None:
    whole = ask(address, "/v1/chat/completions", QUESTION)
    text = whole["choices"][0]["message"]["content"]
    assert whole["usage"]["completion_tokens"] == 4 and text
    parts = list(stream(address, "/v1/chat/completions", QUESTION))
    pieces = [part["choices"][0]["delta"].get("content") or "" for part in parts if part["choices"]]
    assert "".join(pieces) == text and len(pieces) >= 4
    # The template of these models has no place for tools: the server takes them, and the answer is
    # text (docs/export.md).
    message = ask(address, "/v1/chat/completions", QUESTION | {"tools": [TOOL]})
    assert message["choices"][0]["message"]["content"]


def test_the_page_is_there(address: str) -> None:
    request = urllib.request.Request(f"{address}/", headers={"Accept-Encoding": "gzip"})
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request) as answer:
        assert b"<html" in gzip.decompress(answer.read())


def test_a_second_server_on_the_port_is_one_line(address: str, run_folder: Path) -> None:
    port = address.rpartition(":")[2]
    server = start(run_folder / "models/nesso/dpo", "--port", port)
    _, errors = server.communicate(timeout=60)
    assert server.returncode == 2 and errors.count("\n") == 1
    assert f"127.0.0.1:{port}: cannot listen there" in errors


def talk(model: object, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "scripts/chat_export.py", str(model), *arguments]
    options = ["--tokens", "4", "--temperature", "0", "--threads", "1"]
    return subprocess.run(
        [*command, *options], input="Ciao\n\n", capture_output=True, text=True, check=False
    )


def test_a_talk_with_a_server_and_with_a_file_is_the_same(address: str, run_folder: Path) -> None:
    expected = ask(address, "/v1/chat/completions", QUESTION)["choices"][0]["message"]["content"]
    for model in (address, f"{address}/v1", run_folder / "exports/nesso/dpo/q8_0"):
        done = talk(model)
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == expected.strip()
    plain = talk(address, "--plain")
    assert plain.stdout.startswith("Ciao") and plain.stdout.strip() != expected.strip()


def test_what_cannot_be_talked_to_is_one_line(run_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.gguf").write_bytes(b"GGUF\x03\x00")
    (tmp_path / "empty").mkdir()
    for model, part in (
        ("http://127.0.0.1:9", "http://127.0.0.1:9: no server answers"),
        (tmp_path / "none", "no such file or folder, expected a GGUF file or a model folder"),
        (tmp_path / "empty", "no GGUF file there, nor among the run's exports of this model"),
        (tmp_path / "cut.gguf", "cut.gguf: not a whole GGUF file"),
    ):
        done = talk(model)
        assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
        assert part in done.stderr


def test_the_smallest_export_is_taken_unless_one_is_named(run_folder: Path) -> None:
    folder = run_folder / "models/nesso/dpo"
    assert find_file(folder).name == "nesso-dpo-q8_0.gguf"
    assert find_file(folder, "f16").name == "nesso-dpo-f16.gguf"
    assert file_facts(find_file(folder)) == (256, True)
    with pytest.raises(InputError, match="no q4_0 file there"):
        find_file(folder, "q4_0")


def test_settings_beyond_the_model_are_one_line(run_folder: Path) -> None:
    for arguments, part in (
        (("--context", 257), "--context 257: .* takes 1 to 256 tokens"),
        (("--parallel", 0), "--parallel 0: expected 1 or more"),
    ):
        server = start(run_folder / "models/nesso/dpo", "--port", 0, *arguments)
        _, errors = server.communicate(timeout=60)
        assert server.returncode == 2 and re.search(part, errors), errors
