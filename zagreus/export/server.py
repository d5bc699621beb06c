"""llama.cpp's server: OpenAI-compatible, with a page to talk to the model."""

from __future__ import annotations

import json
import socket
import urllib.error
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
    request = urllib.request.Request(
        address + path,
        data=json.dumps(body).encode("utf-8"),
        headers={"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request) as answer:
            found: dict[str, Any] = json.load(answer)
            return found
    except urllib.error.HTTPError as error:
        said = " ".join(error.read(300).decode("utf-8", "replace").split())
        raise InputError(f"{address}{path}: the server refuses ({error.code}: {said})") from None
    except (urllib.error.URLError, OSError) as error:
        raise InputError(
            f"{address}: no server answers ({getattr(error, 'reason', error)})"
        ) from None


def rendered(address: str, messages: list[dict[str, str]]) -> str:
    """Return messages through the chat template of a server's model."""
    return str(ask(address, "/apply-template", {"messages": messages})["prompt"])
