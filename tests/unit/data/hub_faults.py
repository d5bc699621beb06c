"""What stands where a hub should be.

Servers that answer wrongly, and addresses where nobody answers.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from pathlib import Path

from hub_server import serve

PAGE = b"<!DOCTYPE html><html><body>Please log in</body></html>"
# Fault: status, body, headers of every answer.
ANSWERS: dict[str, tuple[int, bytes, dict[str, str]]] = {
    "page": (200, PAGE, {"Content-Type": "text/html; charset=utf-8"}),
    "plain page": (200, PAGE, {"Content-Type": "text/plain"}),
    "other JSON": (200, b'[{"a": 1}]', {"Content-Type": "application/json"}),
    "a number": (200, b"5", {"Content-Type": "application/json"}),
    "empty": (200, b"", {"Content-Type": "application/json"}),
    "401": (401, b"", {}),
    "403": (403, PAGE, {}),
    "404": (404, PAGE, {"Content-Type": "text/html"}),
    "407": (407, b"", {}),
    "418": (418, b"", {}),
    "429": (429, b"", {"Retry-After": "1000"}),
    "500": (500, PAGE, {}),
    "503": (503, b"", {}),
    "circle": (302, b"", {"Location": "/again"}),
    "nowhere": (302, b"", {"Location": "http://[bad"}),
}


@contextmanager
def fault(name: str, folder: Path, times: int | None = None) -> Iterator[str]:
    """Yield an address at which a fault waits.

    Args:
        folder: what the hub of the fault `broken off`, and of every one that ends, holds.
        times: how many requests meet the fault; a sound hub answers those after. None for all.
    """
    if name == "refused":
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            yield f"http://127.0.0.1:{free.getsockname()[1]}"
        return
    if name == "no name":
        yield "http://hub.invalid"
        return
    if name == "no scheme":
        yield "hub.invalid"
        return
    server, handler = serve(folder, "")
    left = [times]

    def answer(self) -> None:  # type: ignore[no-untyped-def]
        if left[0] is not None:
            left[0] -= 1
            if left[0] < 0:
                return self.__class__.__mro__[1].answer(self)
        if name == "hang":
            time.sleep(3)
            self.close_connection = True
        elif name == "noise":
            self.wfile.write(b"\x00\x01 not HTTP\r\n\r\n")
            self.close_connection = True
        elif name == "closed":
            self.close_connection = True
        elif name == "broken off" and "/resolve/" not in self.path:
            self.__class__.__mro__[1].answer(self)
        elif name == "broken off":
            self.half = True
            self.__class__.__mro__[1].answer(self)
            self.close_connection = True
        else:
            status, body, headers = ANSWERS[name]
            self.send(status, body, headers)

    handler.answer = answer  # type: ignore[method-assign]
    server.daemon_threads = True
    threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
    ).start()
    try:
        yield address(server)
    finally:
        server.shutdown()
        server.server_close()


def address(server: ThreadingHTTPServer) -> str:
    """Return a server's address."""
    return f"http://127.0.0.1:{server.server_port}"
