"""The few answers of the Hugging Face hub that a listing and a download need, served from a folder
on this machine.
"""

import hashlib
import json
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(BaseHTTPRequestHandler):
    """`owner/open` is public, `owner/gated` wants the token; both hold the files of `folder`."""

    folder: Path
    token: str
    requests: list[str]
    half = False  # whether an answer breaks off in its middle

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.requests.append(f"{self.command} {path}")
        match = re.match(
            r"(?P<api>/api)?/(?:datasets|models)?/?(?P<repo>owner/\w+)(?P<rest>.*)", path
        )
        if match is None or match["repo"] not in ("owner/open", "owner/gated"):
            return self.send(
                401,
                b"",
                {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"},
            )
        allowed = (
            match["repo"] == "owner/open"
            or self.headers.get("Authorization") == f"Bearer {self.token}"
        )
        rest = match["rest"]
        if rest == "/auth-check" or not match["api"]:
            if not allowed:
                return self.send(
                    401,
                    b"",
                    {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted"},
                )
        if rest == "/auth-check":
            return self.send(200, b"OK", {})
        verb, _, arguments = rest.strip("/").partition("/")
        revision, _, name = arguments.partition("/")
        if revision not in ("main", COMMIT):
            return self.send(
                404, b"", {"X-Error-Code": "RevisionNotFound", "X-Error-Message": "Invalid rev id"}
            )
        if verb == "revision":
            return self.send(
                200,
                json.dumps({"id": match["repo"], "sha": COMMIT}).encode(),
                {"Content-Type": "application/json"},
            )
        if verb == "tree":
            return self.send(
                200, json.dumps(self.tree(name)).encode(), {"Content-Type": "application/json"}
            )
        file = self.folder / name
        if verb != "resolve" or not file.is_file():
            return self.send(
                404, b"", {"X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found"}
            )
        content = file.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        self.send(
            200, content, {"ETag": f'"{digest}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        )

    def tree(self, prefix: str) -> list[dict[str, object]]:
        entries: list[dict[str, object]] = []
        for file in sorted((self.folder / prefix).rglob("*")):
            name = str(file.relative_to(self.folder))
            if file.is_dir():
                entries.append({"type": "directory", "path": name, "oid": "0" * 40})
            else:
                digest, size = hashlib.sha256(file.read_bytes()).hexdigest(), file.stat().st_size
                entries.append(
                    {
                        "type": "file",
                        "path": name,
                        "oid": "0" * 40,
                        "size": size,
                        "lfs": {"oid": digest, "size": size, "pointerSize": 1},
                    }
                )
        return entries

    def send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content[: len(content) // 2] if self.half else content)

    def log_message(self, format: str, *args: object) -> None:
        """The requests are kept in `requests` instead."""


def serve(folder: Path, token: str) -> tuple[ThreadingHTTPServer, type[Hub]]:
    """Return a server on a free port of this machine, and its handler.

    Start it with `serve_forever` in a thread.
    """
    handler = type("BoundHub", (Hub,), {"folder": folder, "token": token, "requests": []})
    return ThreadingHTTPServer(("127.0.0.1", 0), handler), handler
