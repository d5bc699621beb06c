"""The live page's server: two addresses, read only."""

from __future__ import annotations

import errno
import ipaddress
import json
import socket
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from zagreus.errors import InputError
from zagreus.live.snapshot import Snapshots

PAGE = Path(__file__).with_name("page.html")
# Nothing from elsewhere, and no page of elsewhere around this one.
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
SECONDS = 30  # that a request may take to arrive


class PageServer(ThreadingHTTPServer):
    """Serves the page of one run."""

    daemon_threads = True

    def __init__(self, snapshots: Snapshots, host: str, port: int) -> None:
        """Begin to listen.

        Args:
            snapshots: of the run.
            host: an address or a name of this machine.
            port: 0 takes a free one.

        Raises:
            InputError: the port is in use or not allowed, or the host is none of this machine's.
        """
        self.snapshots = snapshots
        self.guard = threading.Lock()  # one look at the files at a time
        try:
            address_info = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        except (socket.gaierror, UnicodeError, OverflowError):
            raise InputError(
                f"--host {host}: no address of that name, expected one of this machine's"
            ) from None
        self.address_family = address_info[0]
        self.loopback = ipaddress.ip_address(str(address_info[4][0]).partition("%")[0]).is_loopback
        try:
            super().__init__((str(address_info[4][0]), port), Handler)
        except OSError as error:
            raise InputError(_refusal(error, host, port)) from None

    @property
    def address(self) -> str:
        """What a browser on this machine opens."""
        host, port = self.socket.getsockname()[:2]
        return f"http://{f'[{host}]' if ':' in host else host}:{port}/"


def _refusal(error: OSError, host: str, port: int) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return (
                f"port {port} is in use, perhaps by another live page; "
                "give another one: --port N (0 takes a free one)"
            )
        case errno.EACCES:
            return f"port {port} is not allowed to this user, expected one from 1024 on"
        case errno.EADDRNOTAVAIL:
            return f"--host {host}: no address of this machine"
        case _:
            return f"port {port} of {host} cannot be listened on ({error.strerror})"


class Handler(BaseHTTPRequestHandler):
    """Answers `/` with the page and `/state.json` with the run as it is."""

    server: PageServer
    timeout = SECONDS
    server_version, sys_version = "zagreus", ""

    def do_GET(self) -> None:
        """Answer."""
        if not self._is_ours():
            self._send(
                HTTPStatus.FORBIDDEN, b"this page is served to localhost only\n", "text/plain"
            )
            return
        address = urlsplit(self.path)
        if address.path == "/":
            self._send(HTTPStatus.OK, PAGE.read_bytes(), "text/html; charset=utf-8")
        elif address.path == "/state.json":
            numbers = parse_qs(address.query).get("open", [""])[0].split(",")
            opened = {int(number) for number in numbers if number.isdecimal()}
            with self.server.guard:
                state = self.server.snapshots.take(opened)
            text = json.dumps(state, ensure_ascii=False, separators=(",", ":"))
            self._send(HTTPStatus.OK, text.encode("utf-8", "replace"), "application/json")
        else:
            self._send(HTTPStatus.NOT_FOUND, b"no such page\n", "text/plain")

    do_HEAD = do_GET

    def _is_ours(self) -> bool:
        """Return whether the request names this server, where only this machine may ask.

        A page of elsewhere can have its own name lead here (DNS rebinding); its name is then in the
        request. Through an ssh tunnel the name is localhost.
        """
        if not self.server.loopback:
            return True
        try:
            name = urlsplit(f"//{self.headers.get('Host', '')}").hostname or ""
            return name == "localhost" or ipaddress.ip_address(name).is_loopback
        except ValueError:
            return False

    def _send(self, status: HTTPStatus, body: bytes, kind: str) -> None:
        try:
            self.send_response(status)
            for name, value in (
                ("Content-Type", kind),
                ("Content-Length", str(len(body))),
                ("Cache-Control", "no-store"),
                ("X-Content-Type-Options", "nosniff"),
                ("Referrer-Policy", "no-referrer"),
                ("Content-Security-Policy", POLICY),
            ):
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True  # the reader has closed the page

    def log_message(self, *_: object) -> None:
        """Say nothing: a line every two seconds tells nobody anything."""
