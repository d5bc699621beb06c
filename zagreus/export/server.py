"""llama.cpp's server: OpenAI-compatible, with a page to talk to the model."""

from __future__ import annotations

import json
import socket
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from zagreus.errors import InputError
from zagreus.export.machine import check_instructions, check_memory

LOOPBACK = "127.0.0.1"


@contextmanager
def serving(
    path: Path,
    *,
    context: int,
    threads: int,
    host: str = LOOPBACK,
    port: int = 0,
    alias: str | None = None,
    parallel: int = 1,
) -> Iterator[str]:
    """Serve a GGUF file within this process, and yield the server's address.

    Args:
        path: the file.
        context: tokens of a conversation.
        threads: of computation.
        host: the interface that the server listens on.
        port: 0 for a free one.
        alias: the model's name in answers.
        parallel: conversations at a time.

    Raises:
        InputError: the port is in use, the file cannot be loaded, memory does not suffice.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file, expected a GGUF file")
    check_instructions()
    check_memory(path, context * parallel)
    check_port(host, port)
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(path)
    parameters.n_ctx, parameters.n_parallel = context * parallel, parallel
    parameters.hostnames, parameters.port = [host], port
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = threads
    parameters.warmup, parameters.verbosity, parameters.fit_params = False, 0, False
    parameters.model_alias = [alias or path.stem]
    try:
        server = xllamacpp.Server(parameters)
    except RuntimeError as error:
        raise InputError(f"{path}: llama.cpp's server does not start ({error})") from None
    try:
        yield str(server.listening_address)
    finally:
        del server


def check_port(host: str, port: int) -> None:
    """Raise `InputError` where nobody can listen on a port."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family, socket.SOCK_STREAM) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind((host, port))
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(
            f"{host}:{port}: cannot listen there ({reason}); --port takes another"
        ) from None


def ask(address: str, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """Send a server a request in JSON and return the answer.

    Raises:
        InputError: no server answers, or it refuses the request.
    """
    with _open(address, path, body) as answer:
        reply: dict[str, Any] = json.load(answer)
        return reply


def stream(address: str, path: str, body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Send a server a request and yield the parts of the answer as they come.

    Raises:
        InputError: no server answers, it refuses the request, or breaks off with an error.
    """
    with _open(address, path, {**body, "stream": True}) as answer:
        for line in answer:
            kind, _, data = line.decode("utf-8", "replace").strip().partition(": ")
            if kind == "error":
                raise InputError(f"{address}{path}: the server broke off ({data[:200]})")
            if kind == "data" and data != "[DONE]":
                yield json.loads(data)


def _open(address: str, path: str, body: Mapping[str, Any]) -> Any:
    request = urllib.request.Request(
        address.rstrip("/") + path,
        data=json.dumps(body).encode("utf-8"),
        headers={"Content-Type": "application/json"},
    )
    # A proxy is for other machines: this one is asked straight.
    here = urllib.parse.urlsplit(address).hostname in (LOOPBACK, "localhost", "::1")
    proxies = urllib.request.ProxyHandler({}) if here else urllib.request.ProxyHandler()
    try:
        return urllib.request.build_opener(proxies).open(request)
    except urllib.error.HTTPError as error:
        said = " ".join(error.read(300).decode("utf-8", "replace").split())
        raise InputError(f"{address}{path}: the server refuses ({error.code}: {said})") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise InputError(f"{address}: no server answers ({reason})") from None


def rendered(address: str, messages: list[dict[str, str]]) -> str:
    """Return messages through the chat template of a server's model."""
    return str(ask(address, "/apply-template", {"messages": messages})["prompt"])


def find_file(path: Path, form: str | None = None) -> Path:
    """Return the GGUF file that a path names.

    Args:
        path: a file, the folder of an export, or a model folder of a run with exports of it.
        form: the format that is taken of several; the smallest file, where it is None.

    Raises:
        InputError: there is no such file.
    """
    if path.suffix == ".gguf" and path.is_file():
        return path
    if not path.is_dir():
        raise InputError(f"{path}: no such file or folder, expected a GGUF file or a model folder")
    places = [path]
    if path.parent.parent.name == "models":
        places += sorted(path.parents[2].glob(f"exports/{path.parent.name}/{path.name}/*"))
    files = [
        file
        for folder in places
        for file in sorted(folder.glob("*.gguf"))
        if form is None or folder.name == form
    ]
    if not files:
        raise InputError(
            f"{path}: no {form or 'GGUF'} file there, nor among the run's exports of this model; "
            "name the model in `exports` of the configuration and run `bin/zagreus exports`"
        )
    return min(files, key=lambda file: file.stat().st_size)


def file_facts(path: Path) -> tuple[int, bool]:
    """Return the context length of a GGUF file, and whether the file has a chat template.

    Raises:
        InputError: not a whole GGUF file.
    """
    import gguf

    try:
        reader = gguf.GGUFReader(path)
        context = reader.get_field("llama.context_length")
        template = reader.get_field("tokenizer.chat_template")
        return int(context.contents()) if context else 2048, template is not None
    except (ValueError, OSError, IndexError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"{path}: not a whole GGUF file ({reason})") from None
