"""A hub on this machine that takes pushes: repositories, branches, commits, large files.

It keeps what was pushed, and fails as it is told to: every n-th request, or each one.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_secret_token_of_a_test"
LARGE = ".safetensors"  # what the hub keeps as a large file


class Repository:
    """A repository: its branches with their files, and the large files that it has."""

    def __init__(self) -> None:
        self.branches: dict[str, dict[str, bytes]] = {"main": {".gitattributes": b"*\n"}}
        self.commits: list[tuple[str, list[str]]] = []


class Hub(BaseHTTPRequestHandler):
    """The hub."""

    protocol_version = "HTTP/1.1"
    repositories: dict[str, Repository]
    created: list[dict[str, Any]]
    large: dict[str, bytes]
    requests: list[str]
    # Every `every`-th request meets `fault`: a status, `hang` or `lost` (done, but not answered).
    every: int = 0
    fault: int | str = 500

    def handle_request(self) -> None:
        path = unquote(urlsplit(self.path).path)
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length) if length else b""
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = self._chunks()
        self.requests.append(f"{self.command} {path}")
        faulty = self.every and len(self.requests) % self.every == 0
        if faulty and isinstance(self.fault, int):
            return self.answer(self.fault, {"error": "planted"})
        if faulty and self.fault == "hang":
            time.sleep(3)
            self.close_connection = True
            return None
        if path == "/api/validate-yaml":  # the library asks without a token
            return self.answer(200, {"errors": [], "warnings": []})
        if self.headers.get("Authorization") != f"Bearer {TOKEN}" and "/upload/" not in path:
            return self.answer(401, {"error": "Invalid username or password."})
        status, content = self.act(path, body)
        if faulty and self.fault == "lost":
            self.close_connection = True
            return None
        return self.answer(status, content)

    do_GET = do_POST = do_PUT = do_HEAD = handle_request

    def act(self, path: str, body: bytes) -> tuple[int, Any]:
        """Do what is asked; return status and answer."""
        if path == "/api/repos/create":
            request = json.loads(body)
            name = (
                f"{request['organization']}/{request['name']}"
                if "organization" in request
                else request
            )
            self.created.append(request)
            known = name in self.repositories
            self.repositories.setdefault(str(name), Repository())
            return (409 if known else 200), {
                "url": f"http://{self.headers['Host']}/{name}",
                "name": name,
            }
        if path.startswith("/upload/"):
            self.large[path.removeprefix("/upload/")] = body
            return 200, {}
        if match := re.fullmatch(r"/(.+)\.git/info/lfs/objects/batch", path):
            return 200, {"transfer": "basic", "objects": self.batch(json.loads(body))}
        match = re.fullmatch(r"/api/models/([^/]+/[^/]+)/(\w+)/([^/]+)(?:/.*)?", path)
        if match is None or match[1] not in self.repositories:
            return 404, {"error": f"no {path}"}
        repository, verb, branch = self.repositories[match[1]], match[2], match[3]
        if verb == "branch":
            if branch in repository.branches:
                return 409, {"error": "exists"}
            repository.branches[branch] = dict(repository.branches["main"])
            return 200, {}
        if branch not in repository.branches:
            return 404, {"error": "no such revision"}
        files = repository.branches[branch]
        if verb == "preupload":
            names = [file["path"] for file in json.loads(body)["files"]]
            return 200, {
                "files": [
                    {
                        "path": name,
                        "uploadMode": "lfs" if name.endswith(LARGE) else "regular",
                        "shouldIgnore": False,
                    }
                    for name in names
                ]
            }
        if verb == "commit":
            return 200, self.commit(repository, branch, body)
        if verb == "revision":
            return 200, {"id": match[1], "sha": self.sha(files)}
        if verb == "tree":
            return 200, [entry(name, content) for name, content in sorted(files.items())]
        return 404, {"error": f"no {path}"}

    def batch(self, request: dict[str, Any]) -> list[dict[str, Any]]:
        """Return where large files go that are not there yet."""
        host = f"http://{self.headers['Host']}"
        return [
            {**item, "authenticated": True}
            | (
                {}
                if item["oid"] in self.large
                else {"actions": {"upload": {"href": f"{host}/upload/{item['oid']}"}}}
            )
            for item in request["objects"]
        ]

    def commit(self, repository: Repository, branch: str, body: bytes) -> dict[str, Any]:
        """Take a commit whole."""
        files = dict(repository.branches[branch])
        names = []
        for line in body.decode().splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif item["key"] == "lfsFile":
                files[value["path"]] = self.large[value["oid"]]
            elif item["key"] == "deletedFile":
                del files[value["path"]]
            else:
                continue
            names.append(value["path"])
        repository.branches[branch] = files
        repository.commits.append((branch, names))
        url = f"http://{self.headers['Host']}/owner/name/commit/{self.sha(files)}"
        return {"success": True, "commitUrl": url, "commitOid": self.sha(files)}

    def sha(self, files: dict[str, bytes]) -> str:
        """Return a commit's name."""
        return hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()

    def _chunks(self) -> bytes:
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def answer(self, status: int, content: Any) -> None:
        """Send an answer."""
        text = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: `requests` has them."""


def entry(name: str, content: bytes) -> dict[str, Any]:
    """Return a file as a listing of the hub has the file."""
    blob = hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()
    listed: dict[str, Any] = {"type": "file", "path": name, "oid": blob, "size": len(content)}
    if name.endswith(LARGE):
        digest = hashlib.sha256(content).hexdigest()
        listed["lfs"] = {"oid": digest, "size": len(content), "pointerSize": 100}
    return listed


def serve() -> tuple[ThreadingHTTPServer, type[Hub]]:
    """Return a hub without repositories, on a free port of this machine, and its handler."""
    empty: dict[str, Any] = {"repositories": {}, "created": [], "large": {}, "requests": []}
    handler = type("BoundHub", (Hub,), empty)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    return server, handler
